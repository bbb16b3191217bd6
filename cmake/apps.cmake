# The program: apps/cli and what it may see, which is include/quern and src/base. src/base is reached through a folder that holds
# nothing else, so that the compiler refuses an include of any other room.
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/include-base)
file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/base ${CMAKE_BINARY_DIR}/include-base/base SYMBOLIC)

file(GLOB QUERN_CLI_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/apps/cli/*.c)
add_custom_target(product DEPENDS quern_static quern_shared)
if(EXISTS ${CMAKE_SOURCE_DIR}/apps/cli/main.c)
  add_executable(quern ${QUERN_CLI_SOURCES})
  set_target_properties(quern PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  target_include_directories(quern PRIVATE ${CMAKE_SOURCE_DIR}/apps/cli ${CMAKE_BINARY_DIR}/include-base)
  target_compile_definitions(quern PRIVATE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
  target_link_libraries(quern PRIVATE quern_static)
  if(EDIT_FOUND)
    target_link_libraries(quern PRIVATE PkgConfig::EDIT)
    target_compile_definitions(quern PRIVATE QUERN_HAVE_LIBEDIT)
  endif()
  add_dependencies(product quern)
endif()
