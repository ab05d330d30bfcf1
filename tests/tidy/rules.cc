#include "tests/tidy/rules.h"

#include <algorithm>
#include <map>
#include <optional>
#include <regex>
#include <set>

namespace patina::tidy {
namespace {

// The words are put together here so that this file does not report itself.
const std::string kMarks[] = {std::string("TO") + "DO", std::string("FIX") + "ME",
                              std::string("XX") + "X", std::string("HA") + "CK"};
const std::string kDishonest[] = {std::string("GTEST_") + "SKIP", std::string("DISABLED") + "_",
                                  std::string("sleep_") + "for", std::string("sleep_") + "until",
                                  std::string("usl") + "eep("};

const std::set<std::string>& Everything() {
  static const std::set<std::string> all = {"base",      "crdt",  "gossip", "storage",
                                            "subscribe", "proto", "agent",  "proxy-sink",
                                            "tools",     "tests", "bench"};
  return all;
}

/// What each folder may include besides itself.
const std::map<std::string, std::set<std::string>>& Allowed() {
  static const std::map<std::string, std::set<std::string>> allowed = {
      {"base", {}},
      {"crdt", {"base"}},
      {"gossip", {"base", "crdt"}},
      {"storage", {"base", "crdt"}},
      {"subscribe", {"base", "crdt", "storage"}},
      {"proto", {"base", "crdt", "gossip"}},
      {"agent", {"base", "crdt", "gossip", "storage", "subscribe", "proto"}},
      {"proxy-sink", {"base", "proto"}},
      {"tools", {"base", "crdt", "gossip", "storage", "subscribe", "proto", "agent", "proxy-sink"}},
      {"tests", Everything()},
      {"bench", Everything()},
  };
  return allowed;
}

std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) end = text.size();
    lines.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

bool EndsWith(std::string_view text, std::string_view end) { return text.ends_with(end); }

bool IsHeader(const File& file) { return EndsWith(file.path, ".h"); }

bool IsCode(const File& file) { return IsHeader(file) || EndsWith(file.path, ".cc"); }

std::string TopFolder(std::string_view path) {
  const size_t slash = path.find('/');
  return slash == std::string_view::npos ? std::string() : std::string(path.substr(0, slash));
}

/// The folder an include leads to: generated files count as proto's. Empty for foreign headers.
std::string FolderOfInclude(const std::string& include) {
  if (include.starts_with("patina/")) return "proto";
  const std::string folder = TopFolder(include);
  return Everything().contains(folder) ? folder : std::string();
}

struct Include {
  size_t line = 0;
  std::string path;
  std::string text;
  bool quoted = false;
};

std::vector<Include> Includes(const File& file) {
  static const std::regex pattern(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  const std::vector<std::string> code = Lines(BlankComments(file.text, true));
  const std::vector<std::string> whole = Lines(file.text);
  std::vector<Include> includes;
  for (size_t i = 0; i < code.size(); ++i) {
    std::smatch match;
    if (std::regex_search(code[i], match, pattern)) {
      includes.push_back({i + 1, match[2].str(), whole[i], match[1].str() == "\""});
    }
  }
  return includes;
}

bool IsHeavy(const std::string& include) {
  return include.starts_with("grpcpp/") || include.starts_with("grpc/") ||
         include.starts_with("google/protobuf") || EndsWith(include, ".pb.h") ||
         include.starts_with("boost/asio") || include.starts_with("asio") ||
         include == "sqlite3.h" || include.starts_with("roaring/");
}

bool IsImpure(const std::string& include) {
  static const std::set<std::string> impure = {"thread",
                                               "mutex",
                                               "shared_mutex",
                                               "condition_variable",
                                               "future",
                                               "atomic",
                                               "fstream",
                                               "filesystem",
                                               "iostream",
                                               "unistd.h",
                                               "random",
                                               "ctime",
                                               "sys/socket.h",
                                               "netinet/in.h",
                                               "base/log.h",
                                               "spdlog/spdlog.h",
                                               "base/thread_checker.h"};
  if (include.starts_with("roaring/")) return false;  // crdt/ may, in .cc
  return impure.contains(include) || IsHeavy(include) || include.starts_with("patina/");
}

bool IsPure(const File& file) {
  const std::string folder = TopFolder(file.path);
  return folder == "crdt" || folder == "gossip";
}

/// Skips one literal that starts at text[i]; blanks its inside unless kept. Returns the position
/// after it.
size_t SkipQuoted(std::string& text, size_t i, bool keep) {
  const char quote = text[i];
  size_t j = i + 1;
  while (j < text.size() && text[j] != quote && text[j] != '\n') {
    const bool escape = text[j] == '\\' && j + 1 < text.size();
    if (!keep) text[j] = ' ';
    if (escape && text[j + 1] != '\n' && !keep) text[j + 1] = ' ';
    j += escape ? 2 : 1;
  }
  return std::min(j + 1, text.size());
}

size_t SkipRawString(std::string& text, size_t i, bool keep) {
  const size_t open = text.find('(', i);
  if (open == std::string::npos) return text.size();
  const std::string end = ")" + text.substr(i + 2, open - i - 2) + "\"";
  size_t close = text.find(end, open);
  close = close == std::string::npos ? text.size() : close + end.size();
  if (!keep) {
    for (size_t j = i; j < close; ++j) {
      if (text[j] != '\n') text[j] = ' ';
    }
  }
  return close;
}

size_t BlankUntil(std::string& text, size_t i, size_t end) {
  end = std::min(end, text.size());
  for (; i < end; ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
  return end;
}

bool IsDigitSeparator(const std::string& text, size_t i) {
  return i > 0 && std::isxdigit(static_cast<unsigned char>(text[i - 1])) != 0 &&
         i + 1 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) != 0;
}

std::string Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1));
}

bool IsFunctionHead(const std::string& head) {
  static const std::regex scope(R"(^(inline\s+)?(namespace|enum|union|extern)\b)");
  static const std::regex type(R"(^(template\s*<.*>\s*)?(class|struct)\b[^()]*$)");
  if (head.find('(') == std::string::npos) return false;
  return !std::regex_search(head, scope) && !std::regex_search(head, type);
}

/// Walks braces; a block whose head looks like a function and that is not inside one is a function.
class FunctionScanner {
 public:
  explicit FunctionScanner(const File& file) : file_(file), text_(BlankPreprocessor(file)) {}

  std::vector<Finding> Run() {
    for (size_t i = 0; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == '\n') ++line_;
      if (c == '{') Open(i);
      if (c == '}') Close(i);
      if (c == ';') head_ = i + 1;
    }
    return std::move(findings_);
  }

 private:
  struct Block {
    bool function = false;
    size_t first_line = 0;
  };

  /// Macros may open braces that they do not close.
  static std::string BlankPreprocessor(const File& file) {
    std::string out;
    bool continued = false;
    for (const std::string& line : Lines(BlankComments(file.text))) {
      const std::string trimmed = Trim(line);
      const bool directive = continued || trimmed.starts_with("#");
      continued = directive && EndsWith(trimmed, "\\");
      out += (directive ? std::string() : line) + "\n";
    }
    return out;
  }

  void Open(size_t at) {
    const std::string head = Trim(std::string_view(text_).substr(head_, at - head_));
    // A constructor's body after its initializers, one of which had braces.
    const bool continued = after_function_ && (head.empty() || head.starts_with(","));
    Block block;
    block.function = depth_in_function_ == 0 && (IsFunctionHead(head) || continued);
    if (block.function) block.first_line = continued ? last_first_line_ : HeadLine(at);
    if (block.function || depth_in_function_ > 0) ++depth_in_function_;
    blocks_.push_back(block);
    head_ = at + 1;
    after_function_ = false;
  }

  void Close(size_t at) {
    head_ = at + 1;
    if (blocks_.empty()) return;
    const Block block = blocks_.back();
    blocks_.pop_back();
    if (depth_in_function_ > 0) --depth_in_function_;
    after_function_ = block.function;
    if (!block.function) return;
    last_first_line_ = block.first_line;
    const size_t lines = line_ - block.first_line + 1;
    if (lines > kFunctionLinesMax) {
      findings_.push_back({file_.path, block.first_line,
                           "a function of " + std::to_string(lines) + " lines; at most " +
                               std::to_string(kFunctionLinesMax)});
    }
  }

  size_t HeadLine(size_t at) const {
    size_t begin = head_;
    while (begin < at && std::isspace(static_cast<unsigned char>(text_[begin])) != 0) ++begin;
    return line_ - static_cast<size_t>(std::count(text_.begin() + static_cast<long>(begin),
                                                  text_.begin() + static_cast<long>(at), '\n'));
  }

  const File& file_;
  std::string text_;
  std::vector<Block> blocks_;
  std::vector<Finding> findings_;
  size_t head_ = 0, line_ = 1, depth_in_function_ = 0, last_first_line_ = 0;
  bool after_function_ = false;
};

/// A comment on the line (counted from 0) or on the one above.
bool IsExplained(const std::vector<std::string>& lines, size_t line) {
  return lines[line].find("//") != std::string::npos ||
         (line > 0 && Trim(lines[line - 1]).starts_with("//"));
}

/// Characters, not bytes: a continuation byte of UTF-8 takes no column.
size_t Columns(std::string_view line) {
  return static_cast<size_t>(
      std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string BlankComments(std::string_view source, bool keep_strings) {
  std::string text(source);
  size_t i = 0;
  while (i < text.size()) {
    const std::string_view rest = std::string_view(text).substr(i);
    if (rest.starts_with("//")) {
      i = BlankUntil(text, i, text.find('\n', i));
    } else if (rest.starts_with("/*")) {
      const size_t end = text.find("*/", i + 2);
      i = BlankUntil(text, i, end == std::string::npos ? end : end + 2);
    } else if (rest.starts_with("R\"")) {
      i = SkipRawString(text, i, keep_strings);
    } else if (text[i] == '"' || (text[i] == '\'' && !IsDigitSeparator(text, i))) {
      i = SkipQuoted(text, i, keep_strings);
    } else {
      ++i;
    }
  }
  return text;
}

std::vector<Finding> CheckLayers(const File& file) {
  std::vector<Finding> findings;
  const std::string folder = TopFolder(file.path);
  const auto allowed = Allowed().find(folder);
  if (!IsCode(file) || allowed == Allowed().end()) return findings;
  for (const Include& include : Includes(file)) {
    const std::string target = include.quoted ? FolderOfInclude(include.path) : std::string();
    if (target.empty() || target == folder || allowed->second.contains(target)) continue;
    findings.push_back({file.path, include.line,
                        folder + "/ must not include " + include.path + " (table House)"});
  }
  return findings;
}

std::vector<Finding> CheckHeaders(const File& file) {
  std::vector<Finding> findings;
  if (!IsCode(file) || !Allowed().contains(TopFolder(file.path))) return findings;
  const std::vector<std::string> whole = Lines(file.text);
  for (const Include& include : Includes(file)) {
    if (IsPure(file) && IsImpure(include.path)) {
      findings.push_back({file.path, include.line,
                          TopFolder(file.path) + "/ is pure and must not include " + include.path});
    } else if (IsHeader(file) && IsHeavy(include.path) && !IsExplained(whole, include.line - 1)) {
      findings.push_back({file.path, include.line,
                          include.path + " is heavy: .cc files only, or a comment that says why"});
    }
  }
  if (!IsPure(file)) return findings;
  static const std::regex clocks(
      R"(\b(system_clock|steady_clock::now|std::rand|getenv|time\(nullptr))");
  const std::vector<std::string> lines = Lines(BlankComments(file.text));
  for (size_t i = 0; i < lines.size(); ++i) {
    if (std::regex_search(lines[i], clocks)) {
      findings.push_back({file.path, i + 1, "time and randomness are passed in"});
    }
  }
  return findings;
}

std::vector<Finding> CheckSizes(const File& file) {
  std::vector<Finding> findings;
  const std::vector<std::string> lines = Lines(file.text);
  if (lines.size() > kFileLinesMax) {
    findings.push_back(
        {file.path, 0,
         std::to_string(lines.size()) + " lines; at most " + std::to_string(kFileLinesMax)});
  }
  if (!IsCode(file)) return findings;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (Columns(lines[i]) <= kColumnsMax) continue;
    const bool cannot_break =
        lines[i].find("://") != std::string::npos || Trim(lines[i]).starts_with("#include");
    if (cannot_break || BlankComments(lines[i]).find_first_not_of(' ') == std::string::npos)
      continue;
    if (lines[i].find("R\"") != std::string::npos) continue;
    findings.push_back(
        {file.path, i + 1,
         std::to_string(Columns(lines[i])) + " columns; at most " + std::to_string(kColumnsMax)});
  }
  const std::vector<Finding> functions = FunctionScanner(file).Run();
  findings.insert(findings.end(), functions.begin(), functions.end());
  return findings;
}

std::vector<Finding> CheckIncludeStyle(const File& file) {
  std::vector<Finding> findings;
  if (!IsCode(file)) return findings;
  if (IsHeader(file)) {
    if (file.text.find("#pragma once") == std::string::npos) {
      findings.push_back({file.path, 1, "a header needs #pragma once"});
    }
    return findings;
  }
  const std::string own = file.path.substr(0, file.path.size() - 3) + ".h";
  const std::vector<Include> includes = Includes(file);
  for (size_t i = 1; i < includes.size(); ++i) {
    if (includes[i].path == own) {
      findings.push_back({file.path, includes[i].line, "its own header comes first"});
    }
  }
  return findings;
}

std::vector<Finding> CheckMarks(const File& file) {
  static const std::regex pattern("\\b(" + kMarks[0] + "|" + kMarks[1] + "|" + kMarks[2] + "|" +
                                  kMarks[3] + ")\\b(?!\\(#[0-9]+\\))");
  std::vector<Finding> findings;
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (std::regex_search(lines[i], pattern)) {
      findings.push_back({file.path, i + 1, "a mark of unfinished work without an issue number"});
    }
  }
  return findings;
}

std::vector<Finding> CheckTestHonesty(const File& file) {
  std::vector<Finding> findings;
  if (!IsCode(file) || TopFolder(file.path) != "tests") return findings;
  const std::vector<std::string> whole = Lines(file.text);
  const std::vector<std::string> code = Lines(BlankComments(file.text));
  for (size_t i = 0; i < code.size(); ++i) {
    const bool explained =
        whole[i].find("//") != std::string::npos || (i > 0 && Trim(whole[i - 1]).starts_with("//"));
    if (explained) continue;
    for (const std::string& word : kDishonest) {
      if (code[i].find(word) == std::string::npos) continue;
      findings.push_back({file.path, i + 1, word + " without a comment that says why"});
    }
  }
  return findings;
}

}  // namespace patina::tidy
