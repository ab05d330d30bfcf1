# What every target of the project shares: warnings, sanitizers, one include root.

add_library(patina_options INTERFACE)
target_compile_features(patina_options INTERFACE cxx_std_20)
target_compile_options(patina_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Werror -fno-omit-frame-pointer)
target_include_directories(patina_options INTERFACE ${PROJECT_SOURCE_DIR})

if(PATINA_SANITIZE)
  target_compile_options(patina_options INTERFACE -fsanitize=${PATINA_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(patina_options INTERFACE -fsanitize=${PATINA_SANITIZE})
  # GCC 12 sees uninitialised members in <regex> and <functional> when they are instrumented.
  target_compile_options(patina_options INTERFACE -Wno-maybe-uninitialized)
endif()

find_program(PATINA_MOLD mold)
if(PATINA_MOLD)
  target_link_options(patina_options INTERFACE -fuse-ld=mold)
endif()

# patina_library(NAME SOURCES a.cc b.cc USES other_target ...): a folder's library, as patina_NAME.
function(patina_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;PRIVATE_USES" ${ARGN})
  add_library(patina_${name} STATIC ${ARG_SOURCES})
  add_library(patina::${name} ALIAS patina_${name})
  target_link_libraries(patina_${name} PUBLIC patina_options ${ARG_USES} PRIVATE ${ARG_PRIVATE_USES})
endfunction()

# patina_test(NAME SOURCES a_test.cc USES target ... [TIMEOUT seconds] [LABELS ...]): a GoogleTest program,
# one ctest entry for the whole program (cheap to start; --gtest_filter works inside it).
function(patina_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;USES;LABELS;ARGS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE patina_options ${ARG_USES} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
  if(PATINA_SANITIZE STREQUAL "thread")
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/tsan.supp")
  endif()
endfunction()
