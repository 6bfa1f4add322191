#ifndef MLOPS_SERVICE_OBSERVE_QUOTED_H_
#define MLOPS_SERVICE_OBSERVE_QUOTED_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"

namespace mlops::observe {

// Returns `text` as a JSON string. Replaces invalid UTF-8.
std::string Quoted(absl::string_view text);

// Returns a text from a client as a JSON string, after base::Echo().
std::string QuotedEcho(absl::string_view text,
                       size_t max_bytes = base::kMaxEchoBytes);

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_QUOTED_H_
