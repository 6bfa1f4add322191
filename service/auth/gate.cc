#include "service/auth/gate.h"

#include <utility>

#include "proto/cpp/base/status_macros.h"

namespace mlops::auth {
namespace {

// Holds more than 10,000 tokens with names of any length.
constexpr size_t kMaxFileBytes = 8 << 20;

bool AllowsAnonymous(const Gate::Options& options) {
  return options.tokens.empty() && options.jwks.empty() &&
         !options.client_certificates && !options.proxy;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gate>> Gate::Open(Options options) {
  const bool jwks = !options.jwks.empty();
  if (jwks == options.jwt_issuer.empty() ||
      jwks == options.jwt_audience.empty()) {
    return absl::InvalidArgumentError(
        "--jwks, --jwt-issuer and --jwt-audience need each other");
  }
  std::unique_ptr<Gate> gate(new Gate(std::move(options)));
  for (const auto& file : gate->files_) RETURN_IF_ERROR(file->Load().status());
  return gate;
}

Gate::Gate(Options options)
    : options_(std::move(options)),
      authenticator_({.allow_anonymous = AllowsAnonymous(options_),
                      .clock = options_.clock}) {
  // Stays in force if there is no policy file.
  policy_.Set(Policy::AllowAll(options_.rpcs));
  AddFile("tokens file", options_.tokens,
          [this](absl::string_view text) { return ApplyTokens(text); });
  AddFile("JWKS file", options_.jwks,
          [this](absl::string_view text) { return ApplyJwks(text); });
  AddFile("policy file", options_.policy,
          [this](absl::string_view text) { return ApplyPolicy(text); });
}

void Gate::AddFile(std::string what, const std::string& path,
                   base::ReloadedFile::Apply apply) {
  if (path.empty()) return;
  files_.push_back(std::make_unique<base::ReloadedFile>(
      base::ReloadedFile::Options{.what = std::move(what),
                                  .path = path,
                                  .max_bytes = kMaxFileBytes,
                                  .clock = options_.clock},
      std::move(apply)));
}

absl::Status Gate::ApplyTokens(absl::string_view text) {
  ASSIGN_OR_RETURN(TokenTable tokens, TokenTable::Parse(text));
  authenticator_.SetTokens(std::move(tokens));
  return absl::OkStatus();
}

absl::Status Gate::ApplyJwks(absl::string_view text) {
  ASSIGN_OR_RETURN(auto verifier, JwtVerifier::Make(text, options_.jwt_issuer,
                                                    options_.jwt_audience));
  authenticator_.SetJwtVerifier(std::move(verifier));
  return absl::OkStatus();
}

absl::Status Gate::ApplyPolicy(absl::string_view text) {
  ASSIGN_OR_RETURN(auto policy, Policy::Parse(text, options_.rpcs));
  policy_.Set(std::move(policy));
  return absl::OkStatus();
}

void Gate::Check(Report report) {
  absl::MutexLock lock(&mutex_);
  for (const auto& file : files_) {
    const absl::StatusOr<bool> applied = file->Check();
    if (!applied.ok() || *applied) report(*file, applied.status());
  }
}

void Gate::Reload(Report report) {
  absl::MutexLock lock(&mutex_);
  for (const auto& file : files_) report(*file, file->Load().status());
}

}  // namespace mlops::auth
