#ifndef MLOPS_PROTO_CPP_BASE_LOOPBACK_H_
#define MLOPS_PROTO_CPP_BASE_LOOPBACK_H_

#include "absl/strings/string_view.h"

namespace mlops::base {

// Returns whether `host`, the part of an address before the port, can only be
// this machine: the name "localhost" in any letter case, an address in
// 127.0.0.0/8, ::1, or the IPv4-mapped IPv6 form of such an address. Brackets
// may enclose an IPv6 address. Does not resolve names, because
// "127.example.org" may be another machine.
bool IsLoopbackHost(absl::string_view host);

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_LOOPBACK_H_
