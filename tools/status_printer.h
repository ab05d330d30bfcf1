#pragma once

#include <iosfwd>

#include "tools/output.h"

namespace patina::v1 {
class StatusResponse;
class VerifyResponse;
}  // namespace patina::v1

namespace patina::tools {

/// For a person: sections, troubles first. JSON: one object; CSV: name,value lines. Any thread.
void PrintStatus(std::ostream& out, Format format, const v1::StatusResponse& status);

/// Table: each node's digests, then what differs. JSON and CSV: one line per difference, or per
/// table and node when there is none.
void PrintVerify(std::ostream& out, Format format, const v1::VerifyResponse& report);

}  // namespace patina::tools
