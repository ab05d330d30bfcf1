#pragma once

#include <cstdint>
#include <string>

// What a person may set for one run of a test: seeds, rounds. Any thread.

namespace patina::test {

/// The variable's whole number, at least 1; `otherwise` when it is not set. Anything else ends the
/// program: a test of no seeds cannot fail.
uint64_t FromEnvironment(const std::string& name, uint64_t otherwise);

/// The seeds of one run: PREFIX_FIRST (else 1) and those after it, PREFIX_SEEDS of them.
struct SeedRange {
  SeedRange(const std::string& prefix, uint64_t seeds_otherwise);
  uint64_t first, end;
};

}  // namespace patina::test
