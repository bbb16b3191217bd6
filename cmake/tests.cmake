# Everything ctest runs. Exit 77 is a skip; tests/run.py counts cases and compares skips with tests/allowed_skips.txt.

# Seconds a test may take; the sanitizers make them slower.
set(QUERN_TEST_TIMEOUT 300)
if(QUERN_SANITIZE STREQUAL "address")
  set(QUERN_TEST_TIMEOUT 600)
elseif(QUERN_SANITIZE STREQUAL "thread")
  set(QUERN_TEST_TIMEOUT 2400)
endif()

# ---- unit tests: each tests/unit/test_*.c is a program of its own ----
if(CMOCKA_FOUND)
  file(GLOB QUERN_UNIT_TESTS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/test_*.c)
  foreach(file IN LISTS QUERN_UNIT_TESTS)
    get_filename_component(name ${file} NAME_WE)
    add_executable(${name} ${file})
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/include)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE QUERN_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE quern_static PkgConfig::CMOCKA)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${QUERN_TEST_TIMEOUT} LABELS unit)
  endforeach()
endif()

# ---- the program from outside: tests/cli/*.case, one ctest test each ----
if(TARGET quern)
  file(GLOB QUERN_CLI_CASES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/cli/*.case)
  foreach(file IN LISTS QUERN_CLI_CASES)
    get_filename_component(name ${file} NAME_WE)
    add_test(NAME cli_${name} COMMAND ${CMAKE_SOURCE_DIR}/tests/cli/run_case.py $<TARGET_FILE:quern> ${file})
    set_tests_properties(cli_${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${QUERN_TEST_TIMEOUT} LABELS cli)
  endforeach()
endif()

# ---- the tree and what is shipped: once, in the plain build ----
if(QUERN_SANITIZE STREQUAL "")
  add_test(NAME exports COMMAND ${CMAKE_SOURCE_DIR}/tests/check_exports.sh $<TARGET_FILE:quern_shared> ${CMAKE_SOURCE_DIR}/include)
  add_test(NAME install COMMAND ${CMAKE_SOURCE_DIR}/tests/install/run.sh ${CMAKE_BINARY_DIR} ${CMAKE_C_COMPILER})
  find_program(QUERN_PYTHON python3)
  if(QUERN_PYTHON)
    add_test(NAME structure COMMAND ${QUERN_PYTHON} ${CMAKE_SOURCE_DIR}/tools/check_structure.py)
    add_test(NAME performance_page COMMAND ${QUERN_PYTHON} ${CMAKE_SOURCE_DIR}/tools/make_performance_md.py --check)
    add_test(NAME structure_of_checker COMMAND ${QUERN_PYTHON} ${CMAKE_SOURCE_DIR}/tests/test_check_structure.py)
  endif()
  set_tests_properties(exports install PROPERTIES LABELS house)
endif()
