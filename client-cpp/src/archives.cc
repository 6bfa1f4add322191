#include <utility>

#include "absl/types/span.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/convert.h"
#include "client-cpp/src/local_file.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops {
namespace {

namespace v1 = workspace::v1;
using internal::SourceFile;
using internal::TargetFile;

constexpr int64_t kChunkBytes = 1 << 20;

absl::Status Report(const std::function<bool(int64_t)>& progress,
                    int64_t size_bytes) {
  if (progress == nullptr || progress(size_bytes)) return absl::OkStatus();
  return absl::CancelledError("progress returned false");
}

}  // namespace

absl::Status WorkspaceClient::ExportWorkspace(
    std::string_view project,
    const std::function<absl::Status(std::string_view)>& write,
    const ExportOptions& options, const CallOptions& call) const {
  v1::ExportWorkspaceRequest request;
  request.set_project(std::string(project));
  for (const std::string& name : options.directories)
    request.add_directories(name);
  int64_t size_bytes = 0;
  return connection_->ExportWorkspace(
      request, call, [&](const v1::ExportWorkspaceResponse& response) {
        RETURN_IF_ERROR(write(response.data()));
        size_bytes += static_cast<int64_t>(response.data().size());
        return Report(options.progress, size_bytes);
      });
}

absl::Status WorkspaceClient::ExportWorkspace(std::string_view project,
                                              const std::string& destination,
                                              const ExportOptions& options,
                                              const CallOptions& call) const {
  ASSIGN_OR_RETURN(TargetFile file, TargetFile::Create(destination));
  const auto write = [&file](std::string_view data) {
    return file.Append({absl::string_view(data.data(), data.size())});
  };
  RETURN_IF_ERROR(ExportWorkspace(project, write, options, call));
  // Place the file only after the call has succeeded: a partial archive must
  // not replace a complete one.
  return file.Place();
}

absl::StatusOr<Workspace> WorkspaceClient::ImportWorkspace(
    const std::function<absl::StatusOr<std::string>()>& read,
    std::string_view project, const ImportOptions& options,
    const CallOptions& call) const {
  bool first = true;
  const auto next =
      [&](v1::ImportWorkspaceRequest* message) -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(std::string data, read());
    // Send a first message even for an empty archive, because it names the
    // workspace.
    if (data.empty() && !first) return false;
    if (first) {
      message->set_project(std::string(project));
      message->set_request_id(options.request_id);
    }
    first = false;
    message->set_data(std::move(data));
    return true;
  };
  ASSIGN_OR_RETURN(
      const v1::ImportWorkspaceResponse response,
      connection_->ImportWorkspace(call, next, [&options](int64_t offset) {
        return Report(options.progress, offset);
      }));
  return internal::FromProto(response.workspace());
}

absl::StatusOr<Workspace> WorkspaceClient::ImportWorkspace(
    const std::string& source, std::string_view project,
    const ImportOptions& options, const CallOptions& call) const {
  ASSIGN_OR_RETURN(const SourceFile file, SourceFile::Open(source));
  int64_t offset = 0;
  const auto read = [&]() -> absl::StatusOr<std::string> {
    if (offset == file.size()) return "";
    ASSIGN_OR_RETURN(const grpc::Slice data, file.Read(offset, kChunkBytes));
    offset += static_cast<int64_t>(data.size());
    return std::string(reinterpret_cast<const char*>(data.begin()),
                       data.size());
  };
  return ImportWorkspace(read, project, options, call);
}

}  // namespace mlops
