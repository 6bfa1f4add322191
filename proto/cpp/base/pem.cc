#include "proto/cpp/base/pem.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::base {
namespace {

constexpr off_t kMaxFileBytes = 1 << 20;
using Bio = std::unique_ptr<BIO, OpenSslDeleter<BIO_free>>;

Bio ReaderOf(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

}  // namespace

absl::StatusOr<std::string> ReadPemFile(const std::string& path) {
  // Open without blocking, because the path may be a pipe.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!fd.ok() || ::fstat(fd.get(), &info) != 0)
    return absl::FailedPreconditionError(std::strerror(errno));
  if (!S_ISREG(info.st_mode))
    return absl::FailedPreconditionError("it is not a file");
  if (info.st_size > kMaxFileBytes)
    return absl::FailedPreconditionError("it is larger than 1 MiB");
  std::string text(static_cast<size_t>(info.st_size), '\0');
  // The file may shrink during the loop, so stop at its end.
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t some =
        ::read(fd.get(), text.data() + size, text.size() - size);
    if (some < 0) return absl::FailedPreconditionError(std::strerror(errno));
    if (some == 0) break;
    size += static_cast<size_t>(some);
  }
  text.resize(size);
  // gRPC takes PEM texts as C strings, so it would ignore what follows a NUL.
  if (absl::StrContains(text, '\0'))
    return absl::FailedPreconditionError("it is not a PEM file");
  return text;
}

absl::StatusOr<std::vector<Certificate>> ParseCertificates(
    const std::string& text) {
  ERR_clear_error();
  const Bio reader = ReaderOf(text);
  std::vector<Certificate> found;
  while (Certificate next{
      PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr)})
    found.push_back(std::move(next));
  // OpenSSL also reports the end as an error.
  const bool at_end =
      ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string error = OpenSslError();
  if (!at_end) {
    return absl::FailedPreconditionError(
        absl::StrCat("a certificate in it is malformed: ", error));
  }
  if (found.empty())
    return absl::FailedPreconditionError("it has no PEM certificate");
  return found;
}

absl::StatusOr<PrivateKey> ParsePrivateKey(const std::string& text) {
  ERR_clear_error();
  // Without this callback, OpenSSL asks on the terminal for the password of an
  // encrypted key.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  PrivateKey key(PEM_read_bio_PrivateKey(ReaderOf(text).get(), nullptr,
                                         no_password, nullptr));
  const std::string error = OpenSslError();
  if (key != nullptr) return key;
  if (absl::StrContains(text, "ENCRYPTED")) {
    return absl::FailedPreconditionError(
        "it is encrypted; decrypt it with openssl pkey");
  }
  return absl::FailedPreconditionError(
      absl::StrCat("it has no PEM private key: ", error));
}

std::string OpenSslError() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason != nullptr ? reason : "unknown error";
}

}  // namespace mlops::base
