#pragma once

#include <filesystem>
#include <string>
#include <string_view>

// A folder for one test. One thread.

namespace patina::test {

/// A new folder, removed with all that is in it. One that cannot be made ends the program.
class TemporaryFolder {
 public:
  /// In the given folder, which must exist. Empty: in memory (/dev/shm) where that has room, else
  /// where the host keeps temporary files.
  explicit TemporaryFolder(const std::filesystem::path& parent = {});
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// The path of a file in it, which need not exist.
  std::string File(std::string_view name) const { return path_ / name; }
  /// Writes a file in it; the file's path.
  std::string Write(std::string_view name, std::string_view text) const;

 private:
  std::filesystem::path path_;
};

}  // namespace patina::test
