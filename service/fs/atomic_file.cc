#include "service/fs/atomic_file.h"

#include "proto/cpp/base/status_macros.h"

namespace mlops::fs {
namespace {

absl::Status WriteSyncClose(File& file, absl::string_view data) {
  RETURN_IF_ERROR(file.Write(data));
  RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

}  // namespace

absl::Status WriteNewFile(Dir& dir, absl::string_view path,
                          absl::string_view data, absl::string_view like) {
  ASSIGN_OR_RETURN(auto file, like.empty() ? dir.CreateFile(path)
                                           : dir.CreateFileLike(path, like));
  absl::Status status = WriteSyncClose(*file, data);
  // Report the first error. The next start sweeps a file that cannot
  // be removed now.
  if (!status.ok()) dir.RemoveFile(path).IgnoreError();
  return status;
}

}  // namespace mlops::fs
