#ifndef MLOPS_PROTO_CPP_BASE_FIELD_INVALID_H_
#define MLOPS_PROTO_CPP_BASE_FIELD_INVALID_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"

namespace mlops::base {

// Returns INVALID_ARGUMENT/FIELD_INVALID. `problem` says what is wrong with
// `field`, a field of a request or an option of a client.
inline absl::Status FieldInvalid(absl::string_view field,
                                 absl::string_view problem) {
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(Echo(field), ": ", problem),
                   {.reason = "FIELD_INVALID",
                    .metadata = {{"field", std::string(field)},
                                 {"problem", std::string(problem)}}});
}

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_FIELD_INVALID_H_
