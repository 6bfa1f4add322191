#ifndef MLOPS_SERVICE_SERVER_LISTENERS_H_
#define MLOPS_SERVICE_SERVER_LISTENERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Addresses: what may be listened on, and where the Unix socket of a base
// directory is. Thread-safe.
namespace mlops::server {

// Checks "unix:<path>" or "<host>:<port>". FAILED_PRECONDITION, as a sentence,
// if it is neither, or if other machines could reach it and `insecure` is not
// set.
absl::Status CheckAddress(absl::string_view address, bool insecure);

// The address of the Unix socket of `base_path`: below the base, or, where that
// path is longer than a socket's name may be, SocketAddressOutside(base_path).
absl::StatusOr<std::string> UnixSocketAddress(const std::string& base_path);

// The address of a Unix socket that is named after `key`, in a directory of
// this user's alone below $XDG_RUNTIME_DIR or /tmp, which is made.
// FAILED_PRECONDITION if that directory cannot be made or is somebody else's.
absl::StatusOr<std::string> SocketAddressOutside(absl::string_view key);

// The same for a server that only reads from `base_path`: named after the path
// and the directory itself, so that those who find another directory under that
// path do not meet there.
absl::StatusOr<std::string> ReadOnlySocketAddress(const std::string& base_path);

// Whether somebody listens on the Unix socket `address`, "unix:<path>".
bool IsAnswered(const std::string& address);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_LISTENERS_H_
