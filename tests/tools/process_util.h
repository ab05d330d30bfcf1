#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

// Runs the built `patina` as a user would. One thread.

namespace patina::tools::test {

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

/// Waits for it. environment: "NAME=value", added to this process's own.
Outcome RunPatina(const std::vector<std::string>& arguments,
                  const std::vector<std::string>& environment = {}, const std::string& input = {});

/// A process in the background; killed at the end if it still runs.
class Background {
 public:
  Background(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
             const std::string& stderr_path);
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void Signal(int signal);
  /// Exit code, or 128 + signal; -1 if it did not end within 20 s.
  int Wait();

 private:
  pid_t pid_ = -1;
};

/// A new folder that is removed at the end.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  /// Writes a file; its path.
  std::string Write(const std::string& name, const std::string& text) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string ReadFile(const std::string& path);

}  // namespace patina::tools::test
