#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// The rules of the house that a compiler does not know, as functions from a file to what is wrong
// with it.

namespace patina::tidy {

/// A source file: its path from the project's root, with '/', and its text.
struct File {
  std::string path;
  std::string text;
};

struct Finding {
  std::string path;
  size_t line = 0;  // from 1; 0: the file as a whole
  std::string what;
};

inline constexpr size_t kFileLinesMax = 500;
inline constexpr size_t kFunctionLinesMax = 70;
inline constexpr size_t kColumnsMax = 100;

/// The text with comments, strings and character literals blanked out; lines and columns stay.
/// keep_strings leaves strings in (for #include).
std::string BlankComments(std::string_view text, bool keep_strings = false);

/// docs/: the table "House" of the architecture. Folders include only what stands above them in it.
std::vector<Finding> CheckLayers(const File& file);

/// crdt/ and gossip/ know no thread, file, clock, socket or log; heavy headers stay in .cc files,
/// or have a comment that says why not.
std::vector<Finding> CheckHeaders(const File& file);

/// Lines per file, lines per function, columns (of code and comments; not of #include lines or
/// URLs).
std::vector<Finding> CheckSizes(const File& file);

/// #pragma once in headers, its own header first in a .cc.
std::vector<Finding> CheckIncludeStyle(const File& file);

/// Marks of unfinished work name an issue: TO-DO(#12), written in one word.
std::vector<Finding> CheckMarks(const File& file);

/// Tests are not skipped, disabled or put to sleep without a comment on the line or the one above
/// it.
std::vector<Finding> CheckTestHonesty(const File& file);

}  // namespace patina::tidy
