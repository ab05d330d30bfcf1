#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/endpoint.h"

namespace boost::asio {
class io_context;
}

namespace patina::agent {

/// Turns the configured seeds ("name:port" or numeric) into addresses. The net thread's.
class SeedResolver {
 public:
  /// on_resolved gets all addresses known so far, each time some seed has been resolved.
  SeedResolver(boost::asio::io_context& io, std::vector<std::string> seeds,
               std::function<void(std::vector<Endpoint>)> on_resolved);
  ~SeedResolver();

  /// Asks for all names (unless that is under way).
  void Resolve();
  void Cancel();
  /// Of all seeds.
  const std::vector<Endpoint>& addresses() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace patina::agent
