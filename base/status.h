#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

// Errors that a caller must look at: Result<T> is a value or an Error, Status is success or an
// Error. Any thread. Bugs of ours are not errors: they are CHECKs (base/check.h).

namespace patina {

/// Named and numbered like gRPC's status codes, so that one function maps them
/// (agent/grpc_status.h).
enum class Errc : int {
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

/// "INVALID_ARGUMENT" and so on.
std::string_view ErrcName(Errc code);

/// What failed, in words that name the table, column, file, limit or peer concerned and what to do.
struct Error {
  Errc code = Errc::kUnknown;
  std::string message;

  /// "INVALID_ARGUMENT: no such table: machinez"
  std::string ToString() const;
};

/// A value or an Error.
template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using Base = tl::expected<T, Error>;
  using Base::Base;
  Result(Error error) : Base(tl::unexpect, std::move(error)) {}  // NOLINT: implicit on purpose
  bool ok() const { return this->has_value(); }
};

using Status = Result<void>;

inline Status OkStatus() { return Status(); }

inline Error InvalidArgument(std::string message) {
  return {Errc::kInvalidArgument, std::move(message)};
}
inline Error NotFound(std::string message) { return {Errc::kNotFound, std::move(message)}; }
inline Error PermissionDenied(std::string message) {
  return {Errc::kPermissionDenied, std::move(message)};
}
inline Error ResourceExhausted(std::string message) {
  return {Errc::kResourceExhausted, std::move(message)};
}
inline Error FailedPrecondition(std::string message) {
  return {Errc::kFailedPrecondition, std::move(message)};
}
inline Error OutOfRange(std::string message) { return {Errc::kOutOfRange, std::move(message)}; }
inline Error DeadlineExceeded(std::string message) {
  return {Errc::kDeadlineExceeded, std::move(message)};
}
inline Error Unavailable(std::string message) { return {Errc::kUnavailable, std::move(message)}; }
inline Error Internal(std::string message) { return {Errc::kInternal, std::move(message)}; }
inline Error DataLoss(std::string message) { return {Errc::kDataLoss, std::move(message)}; }
inline Error Aborted(std::string message) { return {Errc::kAborted, std::move(message)}; }

#define PATINA_CONCAT_INNER(a, b) a##b
#define PATINA_CONCAT(a, b) PATINA_CONCAT_INNER(a, b)

/// Returns the error of a Status or Result from the enclosing function, if it has one.
#define RETURN_IF_ERROR(expression)                                                           \
  do {                                                                                        \
    auto&& patina_status = (expression);                                                      \
    if (!patina_status.has_value()) return ::patina::Error(std::move(patina_status).error()); \
  } while (false)

/// ASSIGN_OR_RETURN(auto x, F()): x is F's value, or the enclosing function returns F's error.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(PATINA_CONCAT(patina_result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(result, declaration, expression)               \
  auto result = (expression);                                                 \
  if (!result.has_value()) return ::patina::Error(std::move(result).error()); \
  declaration = std::move(result).value()

}  // namespace patina
