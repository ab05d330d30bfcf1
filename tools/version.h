#pragma once

namespace patina::tools {

#ifndef PATINA_VERSION
#define PATINA_VERSION "0.1.0"
#endif
inline constexpr const char* kVersion = PATINA_VERSION;

}  // namespace patina::tools
