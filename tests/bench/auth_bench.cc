// Measures what a call pays for identity and policy, with 10,000 tokens
// and 1,000 bindings. The goal is at most 5 µs.

#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/auth/authenticator.h"
#include "service/auth/policy.h"
#include "tests/unit/auth/signer.h"

namespace mlops::auth {
namespace {

constexpr int kTokens = 10'000;
constexpr int kBindings = 1'000;
constexpr Rpc kRpcs[] = {{"GetWorkspace", Access::kView},
                         {"ListWorkspaces", Access::kView},
                         {"WriteArtifact", Access::kEdit},
                         {"DeleteWorkspace", Access::kAdmin}};

std::string Token(int i) {
  return absl::StrCat("mlw_", i, "-0123456789abcdef");
}

// Half of the bindings are for one principal, half for a pattern of them.
std::shared_ptr<const Policy> MakePolicy() {
  std::string text = "bindings:\n";
  for (int i = 0; i < kBindings; ++i) {
    absl::StrAppend(&text, "  - {principal: \"robot-", i, i % 2 ? "" : "-*",
                    "\", role: editor, projects: [\"team-", i,
                    "-*\", shared]}\n");
  }
  return Policy::Parse(text, kRpcs).value();
}

void SetTokens(Authenticator& authenticator) {
  std::string text;
  for (int i = 0; i < kTokens; ++i) {
    const std::string name = absl::StrCat("robot-", i % kBindings,
                                          i % 2 ? "" : absl::StrCat("-", i));
    text += TokenLine(name, Token(i), absl::Now() + absl::Hours(24));
  }
  authenticator.SetTokens(TokenTable::Parse(text).value());
}

void TokenAndPolicy(benchmark::State& state) {
  Authenticator authenticator({});
  SetTokens(authenticator);
  const auto policy = MakePolicy();
  std::mt19937 random(1);
  std::vector<std::string> headers, projects;
  for (int i = 0; i < kTokens; ++i) {
    const int token = static_cast<int>(random() % kTokens);
    headers.push_back(absl::StrCat("Bearer ", Token(token)));
    projects.push_back(absl::StrCat("team-", token % kBindings, "-project"));
  }
  size_t i = 0;
  for (auto _ : state) {
    const auto caller =
        authenticator.Authenticate({.authorization = headers[i]});
    if (!policy->Allows(*caller, "WriteArtifact", projects[i]))
      state.SkipWithError("denied");
    i = (i + 1) % headers.size();
  }
}
BENCHMARK(TokenAndPolicy);

void WrongToken(benchmark::State& state) {
  Authenticator authenticator({});
  SetTokens(authenticator);
  for (auto _ : state)
    benchmark::DoNotOptimize(
        authenticator.Authenticate({.authorization = "Bearer mlw_wrong"}));
}
BENCHMARK(WrongToken);

// If `remembered` is false, the signature is wrong: it is verified anew in
// every call, like that of the first call with a token.
void Jwt(benchmark::State& state, const Signer& signer, bool remembered) {
  const absl::Time now = absl::Now();
  const auto verifier =
      JwtVerifier::Make(KeySet({signer.Jwk()}), "issuer", "audience").value();
  std::string token = signer.Sign({{"iss", "issuer"},
                                   {"aud", "audience"},
                                   {"sub", "account"},
                                   {"exp", absl::ToUnixSeconds(now) + 3600}});
  if (!remembered) {
    char& changed = token[token.size() - 10];
    changed = changed == 'A' ? 'B' : 'A';
  }
  for (auto _ : state) {
    if (verifier->Verify(token, now).ok() != remembered)
      state.SkipWithError("wrong result");
  }
}
void Rs256(benchmark::State& state) {
  Jwt(state, Signer::Rsa("k"), state.range(0) != 0);
}
BENCHMARK(Rs256)->ArgName("remembered")->Arg(0)->Arg(1);
void Es256(benchmark::State& state) {
  Jwt(state, Signer::P256("k"), state.range(0) != 0);
}
BENCHMARK(Es256)->ArgName("remembered")->Arg(0)->Arg(1);

}  // namespace
}  // namespace mlops::auth

BENCHMARK_MAIN();
