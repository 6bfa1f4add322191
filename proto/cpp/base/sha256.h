#ifndef MLOPS_PROTO_CPP_BASE_SHA256_H_
#define MLOPS_PROTO_CPP_BASE_SHA256_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

struct evp_md_ctx_st;

namespace mlops::base {

// Computes the SHA-256 of data that arrives in pieces. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();

  void Update(absl::string_view piece);
  // Returns the digest as 64 lower-case hexadecimal digits. The object must not
  // be used afterwards.
  std::string Finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  const std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace mlops::base

#endif  // MLOPS_PROTO_CPP_BASE_SHA256_H_
