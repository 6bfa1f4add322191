#ifndef MLOPS_SERVICE_SERVER_LISTENERS_H_
#define MLOPS_SERVICE_SERVER_LISTENERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Decides on which addresses the server may listen, and where the Unix socket
// of a base directory is. Thread-safe.
namespace mlops::server {

// Checks an address, "unix:<path>" or "<host>:<port>". Returns
// FAILED_PRECONDITION, as a sentence for the operator, if `address` is neither,
// or if other machines could reach it and `insecure` is not set.
absl::Status CheckAddress(absl::string_view address, bool insecure);

// Returns the address of the Unix socket of `base_path`. The socket is below
// the base, unless its path would be too long; in that case returns
// SocketAddressOutside(base_path).
absl::StatusOr<std::string> UnixSocketAddress(const std::string& base_path);

// Returns the address of a Unix socket named after `key`. Creates its
// directory, which is private to this user, below $XDG_RUNTIME_DIR or /tmp.
// Returns FAILED_PRECONDITION if that directory cannot be created or belongs to
// another user.
absl::StatusOr<std::string> SocketAddressOutside(absl::string_view key);

// Like SocketAddressOutside(), for a read-only server of `base_path`. The name
// depends on the path and on the directory's identity, so that processes that
// see different directories under one path use different sockets. Also returns
// FAILED_PRECONDITION if `base_path` cannot be found.
absl::StatusOr<std::string> ReadOnlySocketAddress(const std::string& base_path);

// Whether a process listens on the Unix socket `address`, "unix:<path>".
bool IsAnswered(const std::string& address);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_LISTENERS_H_
