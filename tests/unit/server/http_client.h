#ifndef MLOPS_TESTS_UNIT_SERVER_HTTP_CLIENT_H_
#define MLOPS_TESTS_UNIT_SERVER_HTTP_CLIENT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::server {

// Connects to "127.0.0.1:<port>". Returns an invalid descriptor if it cannot.
base::UniqueFd Connect(absl::string_view address);

// Sends `text`, ignoring failures.
void Send(int fd, absl::string_view text);

// Returns all that arrives until the peer closes the connection.
std::string ReceiveAll(int fd);

// Sends a request, and returns the response with its headers.
std::string Ask(absl::string_view address, absl::string_view request);

// Returns the response to "GET <path>".
std::string Get(absl::string_view address, absl::string_view path);

}  // namespace mlops::server

#endif  // MLOPS_TESTS_UNIT_SERVER_HTTP_CLIENT_H_
