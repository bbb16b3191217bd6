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

  # The built-in model: made from the checkpoint in models/ by the library's own quantizer, and part of the program. A cross build
  # cannot run that step and names a file made elsewhere with -DQUERN_DEMO_GGUF=PATH.
  set(QUERN_DEMO_GGUF "" CACHE FILEPATH "a ready Q8_0 GGUF to build in, instead of making it")
  set(demo_gguf ${QUERN_DEMO_GGUF})
  set(demo_source ${CMAKE_SOURCE_DIR}/models/quern-coder-8m)
  if(NOT demo_gguf AND NOT CMAKE_CROSSCOMPILING AND EXISTS ${demo_source}/model.safetensors)
    add_executable(quern_make_demo ${CMAKE_SOURCE_DIR}/tools/make_demo.c)
    target_link_libraries(quern_make_demo PRIVATE quern_static)
    set(demo_gguf ${CMAKE_BINARY_DIR}/demo/gguf/demo-Q8_0.gguf)
    file(GLOB demo_files ${demo_source}/*.json ${demo_source}/*.safetensors)
    add_custom_command(OUTPUT ${demo_gguf}
      COMMAND ${CMAKE_COMMAND} -E env SOURCE_DATE_EPOCH=0 $<TARGET_FILE:quern_make_demo> ${demo_source} ${CMAKE_BINARY_DIR}/demo
      DEPENDS ${demo_files} quern_make_demo COMMENT "Making the built-in model" VERBATIM)
  endif()
  if(demo_gguf)
    set(demo_object ${CMAKE_SOURCE_DIR}/apps/cli/demo_model.c)
    set_source_files_properties(${demo_object} PROPERTIES COMPILE_DEFINITIONS "QUERN_DEMO_GGUF=\"${demo_gguf}\"" OBJECT_DEPENDS ${demo_gguf})
  endif()
endif()
