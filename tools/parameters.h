#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "crdt/value.h"

// What people type after SQL on a command line, and files of statements. Values, any thread.

namespace patina::tools {

/// Text that looks like an integer or a real is that number; null is NULL; x'00ff' is a blob;
/// text:… is the text after the colon whatever it looks like; everything else is text. "007",
/// "1e400" and integers beyond 64 bits are text: binding them as numbers would change them.
crdt::Value ParseParameter(std::string_view text);

/// For --help.
inline constexpr const char* kParameterHelp =
    "Bound to ?1, ?2 … in order. 12 and 1.5 are bound as numbers, null as NULL, x'00ff' as a blob, "
    "text:12 as the text 12, everything else as text. Put -- before a text that begins with a dash";

/// Splits at the semicolons that end statements (not those in strings, comments or triggers).
/// Comments and empty statements are left out. INVALID_ARGUMENT with the line when the last one is
/// not complete.
Result<std::vector<std::string>> SplitStatements(std::string_view sql);

}  // namespace patina::tools
