#include "base/status.h"

namespace patina {

std::string_view ErrcName(Errc code) {
  switch (code) {
    case Errc::kCancelled:
      return "CANCELLED";
    case Errc::kUnknown:
      return "UNKNOWN";
    case Errc::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case Errc::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case Errc::kNotFound:
      return "NOT_FOUND";
    case Errc::kAlreadyExists:
      return "ALREADY_EXISTS";
    case Errc::kPermissionDenied:
      return "PERMISSION_DENIED";
    case Errc::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case Errc::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case Errc::kAborted:
      return "ABORTED";
    case Errc::kOutOfRange:
      return "OUT_OF_RANGE";
    case Errc::kUnimplemented:
      return "UNIMPLEMENTED";
    case Errc::kInternal:
      return "INTERNAL";
    case Errc::kUnavailable:
      return "UNAVAILABLE";
    case Errc::kDataLoss:
      return "DATA_LOSS";
    case Errc::kUnauthenticated:
      return "UNAUTHENTICATED";
  }
  return "UNKNOWN";
}

std::string Error::ToString() const { return std::string(ErrcName(code)) + ": " + message; }

}  // namespace patina
