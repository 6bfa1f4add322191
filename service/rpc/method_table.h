#ifndef MLOPS_SERVICE_RPC_METHOD_TABLE_H_
#define MLOPS_SERVICE_RPC_METHOD_TABLE_H_

#include "absl/strings/string_view.h"

namespace mlops::rpc {

// The threads on which a method's handler runs.
enum class Lane {
  // On gRPC's own thread: answers from memory and at most one stat.
  kInline,
  // On the worker pool: syncs files or walks trees, which must not block gRPC's
  // few threads.
  kWorker,
  // On a separate pool: reads whole files of any size, which must not delay any
  // change.
  kWholeFile,
};

// What Calls needs to know about a method.
struct Method {
  absl::string_view name;
  Lane lane;
};

inline constexpr Method kCreateWorkspace = {"CreateWorkspace", Lane::kWorker};
inline constexpr Method kGetWorkspace = {"GetWorkspace", Lane::kInline};
inline constexpr Method kListWorkspaces = {"ListWorkspaces", Lane::kWorker};
inline constexpr Method kUpdateWorkspace = {"UpdateWorkspace", Lane::kWorker};
inline constexpr Method kDeleteWorkspace = {"DeleteWorkspace", Lane::kWorker};
inline constexpr Method kEnsureWorkspace = {"EnsureWorkspace", Lane::kWorker};
inline constexpr Method kUndeleteWorkspace = {"UndeleteWorkspace",
                                              Lane::kWorker};
inline constexpr Method kGetWorkspaceStatus = {"GetWorkspaceStatus",
                                               Lane::kWorker};
inline constexpr Method kStreamWorkspaceStatuses = {"StreamWorkspaceStatuses",
                                                    Lane::kWorker};
inline constexpr Method kGetArtifact = {"GetArtifact", Lane::kWorker};
inline constexpr Method kGetArtifactChecksum = {"GetArtifact",
                                                Lane::kWholeFile};
inline constexpr Method kListArtifacts = {"ListArtifacts", Lane::kWorker};
inline constexpr Method kReadArtifact = {"ReadArtifact", Lane::kWorker};
inline constexpr Method kWriteArtifact = {"WriteArtifact", Lane::kWorker};
inline constexpr Method kGetUpload = {"GetUpload", Lane::kWorker};
inline constexpr Method kDeleteArtifact = {"DeleteArtifact", Lane::kWorker};
inline constexpr Method kMoveArtifact = {"MoveArtifact", Lane::kWorker};
inline constexpr Method kCopyArtifact = {"CopyArtifact", Lane::kWholeFile};
inline constexpr Method kMakeDirectory = {"MakeDirectory", Lane::kWorker};
inline constexpr Method kGetServerInfo = {"GetServerInfo", Lane::kInline};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_METHOD_TABLE_H_
