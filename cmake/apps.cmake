# The program: apps/cli and what it may see, which is include/quern and src/base. src/base is reached through a folder that holds
# nothing else, so that the compiler refuses an include of any other room.
option(QUERN_DEMO "put the built-in model into the program" ON)
set(QUERN_DEMO_GGUF "" CACHE FILEPATH "a ready Q8_0 GGUF of models/quern-coder-8m (for cross builds); empty: made by the build")

file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/include-base)
file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/base ${CMAKE_BINARY_DIR}/include-base/base SYMBOLIC)

file(GLOB QUERN_CLI_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/apps/cli/*.c)
add_executable(quern ${QUERN_CLI_SOURCES})
set_target_properties(quern PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
target_include_directories(quern PRIVATE ${CMAKE_SOURCE_DIR}/apps/cli ${CMAKE_BINARY_DIR}/include-base)
target_compile_definitions(quern PRIVATE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
target_link_libraries(quern PRIVATE quern_static)
if(EDIT_FOUND)
  target_link_libraries(quern PRIVATE PkgConfig::EDIT)
  target_compile_definitions(quern PRIVATE QUERN_HAVE_LIBEDIT)
endif()
add_custom_target(product DEPENDS quern ${QUERN_ARCHIVE} quern_shared)

# ---- the built-in model: the library itself quantizes the checkpoint, the assembler puts the file into the program ----
set(demo_gguf ${QUERN_DEMO_GGUF})
if(QUERN_DEMO AND NOT demo_gguf AND NOT CMAKE_CROSSCOMPILING)
  set(demo_gguf ${CMAKE_BINARY_DIR}/demo/gguf/demo-Q8_0.gguf)
  set(checkpoint ${CMAKE_SOURCE_DIR}/models/quern-coder-8m)
  add_executable(quern_make_demo ${CMAKE_SOURCE_DIR}/tools/make_demo.c)
  target_link_libraries(quern_make_demo PRIVATE quern_static)
  add_custom_command(OUTPUT ${demo_gguf}
    COMMAND ${CMAKE_COMMAND} -E env SOURCE_DATE_EPOCH=0 $<TARGET_FILE:quern_make_demo> ${checkpoint} ${CMAKE_BINARY_DIR}/demo
    DEPENDS quern_make_demo ${checkpoint}/model.safetensors ${checkpoint}/config.json ${checkpoint}/tokenizer.json ${checkpoint}/tokenizer_config.json
    COMMENT "Quantizing the built-in model" VERBATIM)
endif()
if(QUERN_DEMO AND demo_gguf)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/apps/cli/demo_model.c PROPERTIES
    COMPILE_DEFINITIONS QUERN_DEMO_GGUF="${demo_gguf}" OBJECT_DEPENDS ${demo_gguf})
else()
  message(STATUS "built-in model: left out")
endif()
