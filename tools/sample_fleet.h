#pragma once

#include <string_view>

// fleet/schema.sql and fleet/regions.csv, built into the binary for `patina agent --dev`.

namespace patina::tools {

extern const std::string_view kSampleFleetSchema;
/// Header "code,name,latitude,longitude", then a region per line.
extern const std::string_view kSampleFleetRegions;

}  // namespace patina::tools
