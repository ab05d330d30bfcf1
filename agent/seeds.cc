#include "agent/seeds.h"

#include <algorithm>
#include <utility>

#include "agent/asio_util.h"
#include "base/log.h"

namespace patina::agent {

using asio::ip::udp;

struct SeedResolver::Impl : std::enable_shared_from_this<SeedResolver::Impl> {
  Impl(asio::io_context& io, std::vector<std::string> names,
       std::function<void(std::vector<Endpoint>)> done)
      : resolver(io),
        seeds(std::move(names)),
        on_resolved(std::move(done)),
        resolved(seeds.size()) {}

  void ResolveOne(size_t index) {
    const std::string& seed = seeds[index];
    const size_t colon = seed.rfind(':');
    ++under_way;
    resolver.async_resolve(
        seed.substr(0, colon), seed.substr(colon + 1),
        [self = shared_from_this(), index](boost::system::error_code error,
                                           const udp::resolver::results_type& results) {
          --self->under_way;
          if (self->cancelled) return;
          if (error) {
            LogWarning("net", "the seed ", self->seeds[index],
                       " cannot be resolved: ", error.message());
            return;
          }
          std::vector<Endpoint> found;
          for (const auto& entry : results) found.push_back(FromAsio(entry.endpoint()));
          self->resolved[index] = std::move(found);
          self->Tell();
        });
  }

  void Tell() {
    all.clear();
    for (const auto& endpoints : resolved)
      all.insert(all.end(), endpoints.begin(), endpoints.end());
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    on_resolved(all);
  }

  udp::resolver resolver;
  const std::vector<std::string> seeds;
  const std::function<void(std::vector<Endpoint>)> on_resolved;
  std::vector<std::vector<Endpoint>> resolved;  // per seed
  std::vector<Endpoint> all;
  size_t under_way = 0;
  bool cancelled = false;
};

SeedResolver::SeedResolver(asio::io_context& io, std::vector<std::string> seeds,
                           std::function<void(std::vector<Endpoint>)> on_resolved)
    : impl_(std::make_shared<Impl>(io, std::move(seeds), std::move(on_resolved))) {}

SeedResolver::~SeedResolver() { Cancel(); }

void SeedResolver::Resolve() {
  if (impl_->under_way != 0 || impl_->cancelled) return;
  bool numeric = false;
  for (size_t i = 0; i < impl_->seeds.size(); ++i) {
    if (const auto endpoint = Endpoint::Parse(impl_->seeds[i])) {
      impl_->resolved[i] = {*endpoint};
      numeric = true;
    } else {
      try {  // Asio starts a thread at the first name, which may fail
        impl_->ResolveOne(i);
      } catch (const std::exception& exception) {
        impl_->under_way = 0;
        LogWarning("net", "the seed ", impl_->seeds[i], " cannot be resolved: ", exception.what());
      }
    }
  }
  if (numeric) impl_->Tell();
}

void SeedResolver::Cancel() {
  impl_->cancelled = true;
  impl_->resolver.cancel();
}

const std::vector<Endpoint>& SeedResolver::addresses() const { return impl_->all; }

}  // namespace patina::agent
