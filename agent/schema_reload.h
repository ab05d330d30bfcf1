#pragma once

#include "agent/config.h"
#include "agent/writer.h"

namespace patina::agent {

/// Reads the configured schema files, on the caller's thread, and has the writer bring the tables
/// to them. done is called once: here with INVALID_ARGUMENT (file, line and reason) or UNAVAILABLE,
/// else on the writer thread, FAILED_PRECONDITION when the schema does not fit the file or would
/// lose data without allow_destructive. After an error everything is as it was.
void ReloadSchema(const Config& config, Writer& writer, bool allow_destructive,
                  Writer::SchemaDone done);

}  // namespace patina::agent
