# Benches of single rooms: build/bench_<name>, one a file of bench/. They may look into src, as unit tests do. Whole-program measurements are
# scripts in tools/.
file(GLOB QUERN_BENCHES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/bench_*.c)
foreach(file IN LISTS QUERN_BENCHES)
  get_filename_component(name ${file} NAME_WE)
  add_executable(${name} ${file})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/include)
  target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
  target_link_libraries(${name} PRIVATE quern_static)
endforeach()
