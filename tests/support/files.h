#pragma once

#include <filesystem>
#include <string>
#include <string_view>

// Whole files as text. Any thread.

namespace patina::test {

/// Empty when there is no such file, too: what a process writes may not be there yet.
std::string ReadFile(const std::filesystem::path& path);

/// Replaces what was there. A failure ends the program.
void WriteFile(const std::filesystem::path& path, std::string_view text);

}  // namespace patina::test
