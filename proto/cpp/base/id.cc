#include "proto/cpp/base/id.h"

#include <openssl/sha.h>

#include "absl/random/random.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace mlops::base {

std::string RandomId() {
  // One generator per thread needs no lock.
  thread_local absl::BitGen bits;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(bits),
                         absl::Uniform<uint64_t>(bits));
}

std::string HashHex(absl::string_view data, size_t digits) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(),
         digest);
  return absl::BytesToHexString(
             {reinterpret_cast<const char*>(digest), sizeof(digest)})
      .substr(0, digits);
}

}  // namespace mlops::base
