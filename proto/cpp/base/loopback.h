#ifndef MLOPS_PROTO_CPP_BASE_LOOPBACK_H_
#define MLOPS_PROTO_CPP_BASE_LOOPBACK_H_

#include "absl/strings/string_view.h"

namespace mlops::base {

// Whether `host`, the part of an address before the port, means this machine
// alone: the name "localhost", an address in 127.0.0.0/8, ::1, or such an IPv4
// address written as IPv6, with or without brackets. Names are not resolved:
// "127.example.org" is some other machine's.
bool IsLoopbackHost(absl::string_view host);

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_LOOPBACK_H_
