#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/support/files.h"
#include "tests/tidy/rules.h"

// The rules, on every file of the project.

namespace patina::tidy {
namespace {

namespace fs = std::filesystem;

bool IsChecked(const fs::path& path) {
  static const std::set<std::string> endings = {".cc", ".h",   ".proto", ".md",  ".cmake",
                                                ".sh", ".sql", ".py",    ".toml"};
  const std::string name = path.filename().string();
  return endings.contains(path.extension().string()) || name == "CMakeLists.txt" || name == "dev";
}

bool IsForeign(const std::string& name) {
  return name == "build" || name.starts_with("build-") || name.starts_with(".") ||
         name == "__pycache__";
}

std::vector<File> ReadTree() {
  const fs::path root = PATINA_SOURCE_DIR;
  std::vector<File> files;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    if (it->is_directory() && IsForeign(it->path().filename().string())) {
      it.disable_recursion_pending();
    } else if (it->is_regular_file() && IsChecked(it->path())) {
      files.push_back(
          {fs::relative(it->path(), root).generic_string(), test::ReadFile(it->path())});
    }
  }
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.path < b.path; });
  return files;
}

const std::vector<File>& Tree() {
  static const std::vector<File> tree = ReadTree();
  return tree;
}

void ExpectClean(const std::function<std::vector<Finding>(const File&)>& check) {
  ASSERT_GT(Tree().size(), 50u) << "is " << PATINA_SOURCE_DIR << " the project?";
  for (const File& file : Tree()) {
    for (const Finding& finding : check(file)) {
      ADD_FAILURE() << finding.path << ":" << finding.line << ": " << finding.what;
    }
  }
}

TEST(TreeTest, FoldersIncludeOnlyWhatTheTableAllows) { ExpectClean(CheckLayers); }
TEST(TreeTest, TheCoreIsPureAndHeavyHeadersStayInSourceFiles) { ExpectClean(CheckHeaders); }
TEST(TreeTest, FilesFunctionsAndLinesAreShort) { ExpectClean(CheckSizes); }
TEST(TreeTest, HeadersAreIncludedOnceAndFirst) { ExpectClean(CheckIncludeStyle); }
TEST(TreeTest, UnfinishedWorkNamesAnIssue) { ExpectClean(CheckMarks); }
TEST(TreeTest, TestsAreNotSkippedOrPutToSleep) { ExpectClean(CheckTestHonesty); }

TEST(TreeTest, EveryFolderHasAReadme) {
  for (const auto& entry : fs::directory_iterator(PATINA_SOURCE_DIR)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || IsForeign(name)) continue;
    EXPECT_TRUE(fs::exists(entry.path() / "README.md")) << name << "/ has no README.md";
  }
}

}  // namespace
}  // namespace patina::tidy
