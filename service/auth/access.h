#ifndef MLOPS_SERVICE_AUTH_ACCESS_H_
#define MLOPS_SERVICE_AUTH_ACCESS_H_

#include "absl/strings/string_view.h"

namespace mlops::auth {

// The lowest built-in role that includes an RPC. Each role includes the ones
// before it.
enum class Access {
  // Every caller that the server accepts, even without a role.
  kAnyone,
  kView,
  kEdit,
  kAdmin,
  kOperate,
};

// An RPC, as policies see it.
struct Rpc {
  // For example "GetWorkspace". Must refer to text that is never destroyed.
  absl::string_view name;
  Access access;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_ACCESS_H_
