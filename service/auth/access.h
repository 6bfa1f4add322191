#ifndef MLOPS_SERVICE_AUTH_ACCESS_H_
#define MLOPS_SERVICE_AUTH_ACCESS_H_

#include "absl/strings/string_view.h"

namespace mlops::auth {

// The least of the built-in roles that includes an RPC. Each role includes
// those before it.
enum class Access {
  // Every caller whom the server accepts, without any role.
  kAnyone,
  kView,
  kEdit,
  kAdmin,
  kOperate,
};

// An RPC, for policies.
struct Rpc {
  // Such as "GetWorkspace". Must refer to text that is never destroyed.
  absl::string_view name;
  Access access;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_ACCESS_H_
