#pragma once

#include "agent/api_server.h"
#include "agent/api_streams.h"

namespace grpc {
template <class Response>
class ServerWriteReactor;
}
namespace patina::v1 {
class BackupRequest;
class BackupResponse;
}  // namespace patina::v1

namespace patina::agent {

/// Starts one Admin.Backup. The call deletes itself when done; the others outlive it. A client that
/// goes ends its backup.
grpc::ServerWriteReactor<v1::BackupResponse>* NewBackupCall(const ApiContext& context,
                                                            ApiStreams& streams,
                                                            const v1::BackupRequest& request);

}  // namespace patina::agent
