#pragma once

#include <string_view>

// CHECK(condition): our own invariants, always on. Never for what a peer, a user or a disk can
// cause.

namespace patina {

/// Prints file, line and the failed condition to stderr, then aborts. Any thread.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              std::string_view detail = {});

}  // namespace patina

#define CHECK(condition)                             \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::patina::CheckFailed(__FILE__, __LINE__, #condition))

#define CHECK_MSG(condition, detail)                 \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::patina::CheckFailed(__FILE__, __LINE__, #condition, detail))
