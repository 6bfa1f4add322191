// Tests the client's tokens, TLS and failover with real gRPC servers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/wire_status.h"
#include "tests/support/certificates.h"
#include "tests/support/temp_dir.h"

namespace mlops {
namespace {

namespace v1 = workspace::v1;
using support::CertificateAuthority;
using support::Identity;
using testing::HasSubstr;
using testing::Not;

constexpr char kToken[] = "mlw_secret";

// Records the authorization of the last call, and refuses the token "wrong".
class RecordingService final : public v1::WorkspaceService::Service {
 public:
  std::string authorization() {
    absl::MutexLock lock(&mutex_);
    return authorization_;
  }
  int calls() {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }

  grpc::Status GetServerInfo(grpc::ServerContext* context,
                             const v1::GetServerInfoRequest*,
                             v1::ServerInfo*) override {
    return Note(*context);
  }
  grpc::Status StreamWorkspaceStatuses(
      grpc::ServerContext* context, const v1::StreamWorkspaceStatusesRequest*,
      grpc::ServerWriter<v1::StreamWorkspaceStatusesResponse>*) override {
    return Note(*context);
  }
  grpc::Status CreateWorkspace(grpc::ServerContext* context,
                               const v1::CreateWorkspaceRequest*,
                               v1::Workspace*) override {
    return Note(*context);
  }

 private:
  grpc::Status Note(const grpc::ServerContext& context) {
    absl::MutexLock lock(&mutex_);
    ++calls_;
    const auto& metadata = context.client_metadata();
    const auto found = metadata.find("authorization");
    authorization_ =
        found == metadata.end()
            ? ""
            : std::string(found->second.data(), found->second.size());
    if (authorization_ != "Bearer wrong") return grpc::Status::OK;
    return wire::ToGrpc(base::MakeError(absl::StatusCode::kUnauthenticated,
                                        "The token is unknown",
                                        {.reason = "CREDENTIALS_INVALID"}));
  }

  absl::Mutex mutex_;
  std::string authorization_;
  int calls_ = 0;
};

// A server on a free port of 127.0.0.1.
class TestServer {
 public:
  explicit TestServer(const std::shared_ptr<grpc::ServerCredentials>& creds =
                          grpc::InsecureServerCredentials()) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", creds, &port_);
    builder.RegisterService(&service);
    server_ = builder.BuildAndStart();
    Serve(true);
  }
  ~TestServer() { Stop(); }

  // What health checks report.
  void Serve(bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(
        v1::WorkspaceService::service_full_name(), serving);
  }
  void Stop() { server_->Shutdown(std::chrono::system_clock::now()); }
  std::string address() const { return absl::StrCat("localhost:", port_); }

  RecordingService service;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest() {
    for (const char* name : {"TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"})
      ::unsetenv(absl::StrCat("MLOPS_WORKSPACE_", name).c_str());
    dir_.WriteFile("ca.pem", authority_.cert());
  }

  static std::shared_ptr<grpc::ServerCredentials> Tls(
      const Identity& identity, const std::string& client_ca = "") {
    grpc::SslServerCredentialsOptions options(
        client_ca.empty()
            ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    options.pem_root_certs = client_ca;
    options.pem_key_cert_pairs.push_back(
        {.private_key = identity.key, .cert_chain = identity.cert});
    return grpc::SslServerCredentials(options);
  }

  static absl::Status Call(const ClientOptions& options) {
    const auto client = WorkspaceClient::Connect(options);
    if (!client.ok()) return client.status();
    return client->GetServerInfo().status();
  }

  // Returns the message of a FIELD_INVALID error of Connect().
  static std::string Problem(const ClientOptions& options) {
    const absl::Status error = WorkspaceClient::Connect(options).status();
    EXPECT_EQ(ErrorReason(error), "FIELD_INVALID") << error;
    EXPECT_THAT(error.ToString(), Not(HasSubstr(kToken)));
    return std::string(error.message());
  }

  const CertificateAuthority authority_;
  const support::TempDir dir_;
};

TEST_F(CredentialsTest, SendsTheTokenWithEveryKindOfCall) {
  TestServer server(Tls(authority_.Issue()));
  const auto client = WorkspaceClient::Connect({.address = server.address(),
                                                .token = kToken,
                                                .ca_file = dir_.Path("ca.pem")})
                          .value();
  const std::string expected = absl::StrCat("Bearer ", kToken);
  EXPECT_EQ(client.GetServerInfo().status(), absl::OkStatus());
  EXPECT_EQ(server.service.authorization(), expected);
  EXPECT_EQ(client.StreamStatuses([](const WorkspaceStatus&) { return true; }),
            absl::OkStatus());
  EXPECT_EQ(server.service.authorization(), expected);
}

TEST_F(CredentialsTest, SendsNothingWithoutAToken) {
  TestServer server;
  EXPECT_EQ(Call({.address = server.address()}), absl::OkStatus());
  EXPECT_EQ(server.service.authorization(), "");
}

TEST_F(CredentialsTest, TakesTheEnvironmentsCredentials) {
  TestServer server(Tls(authority_.Issue()));
  ::setenv("MLOPS_WORKSPACE_TOKEN", "theirs\n", 1);
  ::setenv("MLOPS_WORKSPACE_CA", dir_.Path("ca.pem").c_str(), 1);
  EXPECT_EQ(Call({.address = server.address()}), absl::OkStatus());
  EXPECT_EQ(server.service.authorization(), "Bearer theirs");
  EXPECT_EQ(Call({.address = server.address(), .token = kToken}),
            absl::OkStatus());
  EXPECT_EQ(server.service.authorization(), absl::StrCat("Bearer ", kToken));
  ::unsetenv("MLOPS_WORKSPACE_TOKEN");
  ::unsetenv("MLOPS_WORKSPACE_CA");
}

TEST_F(CredentialsTest, ReadsTheTokenFileAgain) {
  TestServer server;
  dir_.WriteFile("token", "first\n");
  const auto client =
      WorkspaceClient::Connect(
          {.address = server.address(), .token_file = dir_.Path("token")})
          .value();
  const auto sent = [&] {
    EXPECT_EQ(client.GetServerInfo().status(), absl::OkStatus());
    return server.service.authorization();
  };
  EXPECT_EQ(sent(), "Bearer first");
  dir_.WriteFile("token", "the-second\n");
  EXPECT_EQ(sent(), "Bearer the-second");
  // As while a secret is being replaced.
  dir_.WriteFile("token", "");
  EXPECT_EQ(sent(), "Bearer the-second");
  dir_.Remove("token");
  EXPECT_EQ(sent(), "Bearer the-second");
}

TEST_F(CredentialsTest, ReportsARefusedTokenByItsReason) {
  TestServer server;
  const absl::Status error =
      Call({.address = server.address(), .token = "wrong"});
  EXPECT_EQ(error.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(ErrorReason(error), "CREDENTIALS_INVALID");
}

TEST_F(CredentialsTest, NeverSendsATokenUnencryptedToAnotherHost) {
  for (const char* address : {"http://far.example:1", "a:1,http://b:1"}) {
    EXPECT_THAT(Problem({.address = address, .token = kToken}),
                HasSubstr("unencrypted: use https://"));
  }
  ::setenv("MLOPS_WORKSPACE_TOKEN", kToken, 1);
  EXPECT_THAT(Problem({.address = "http://far.example:1"}),
              HasSubstr("unencrypted"));
  ::unsetenv("MLOPS_WORKSPACE_TOKEN");
}

TEST_F(CredentialsTest, RefusesUnusableOptions) {
  const auto problem = [](ClientOptions options) {
    options.address = "localhost:1";
    return Problem(options);
  };
  EXPECT_THAT(problem({.token = absl::StrCat(kToken, "\r\nx: y")}),
              HasSubstr("characters that no token has"));
  EXPECT_THAT(problem({.token = std::string(9000, 'a')}),
              HasSubstr("longer than 8192 bytes"));
  EXPECT_THAT(problem({.token = kToken, .token_file = "/t"}),
              HasSubstr("not both"));
  EXPECT_THAT(problem({.token_file = dir_.Path("none")}),
              HasSubstr("none cannot be used: No such file"));
  const Identity robot = authority_.Issue();
  dir_.WriteFile("cert", robot.cert);
  dir_.WriteFile("other", authority_.Issue().key);
  dir_.WriteFile("garbage", "garbage");
  EXPECT_THAT(problem({.ca_file = dir_.Path("garbage")}),
              HasSubstr("garbage cannot be used: it has no PEM certificate"));
  EXPECT_THAT(problem({.cert_file = dir_.Path("cert")}),
              HasSubstr("key_file: is missing"));
  EXPECT_THAT(problem({.cert_file = dir_.Path("cert"),
                       .key_file = dir_.Path("garbage")}),
              HasSubstr("it has no PEM private key"));
  EXPECT_THAT(
      problem({.cert_file = dir_.Path("cert"), .key_file = dir_.Path("other")}),
      HasSubstr("is not the key of"));
}

TEST_F(CredentialsTest, RefusesServersOfAnotherAuthorityOrName) {
  TestServer other(Tls(CertificateAuthority().Issue()));
  TestServer elsewhere(Tls(authority_.Issue(
      {.common_name = "elsewhere", .names = "DNS:elsewhere"})));
  for (const TestServer* server : {&other, &elsewhere}) {
    EXPECT_EQ(
        Call({.address = server->address(), .ca_file = dir_.Path("ca.pem")})
            .code(),
        absl::StatusCode::kUnavailable);
  }
}

TEST_F(CredentialsTest, VerifiesIpAddresses) {
  TestServer server(Tls(authority_.Issue()));
  const std::string address = absl::StrCat(
      "127.0.0.1", server.address().substr(server.address().find(':')));
  EXPECT_EQ(Call({.address = address, .ca_file = dir_.Path("ca.pem")}),
            absl::OkStatus());
}

TEST_F(CredentialsTest, PresentsAClientCertificate) {
  TestServer server(Tls(authority_.Issue(), authority_.cert()));
  const Identity robot = authority_.Issue({.common_name = "robot"});
  dir_.WriteFile("cert", robot.cert);
  dir_.WriteFile("key", robot.key);
  EXPECT_EQ(Call({.address = server.address(),
                  .ca_file = dir_.Path("ca.pem"),
                  .cert_file = dir_.Path("cert"),
                  .key_file = dir_.Path("key")}),
            absl::OkStatus());
  EXPECT_EQ(Call({.address = server.address(), .ca_file = dir_.Path("ca.pem")})
                .code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(CredentialsTest, FollowsARenewedAuthority) {
  const CertificateAuthority renewed;
  TestServer server(Tls(renewed.Issue()));
  const auto client = WorkspaceClient::Connect({.address = server.address(),
                                                .ca_file = dir_.Path("ca.pem")})
                          .value();
  EXPECT_FALSE(client.GetServerInfo().ok());
  dir_.WriteFile("ca.pem", renewed.cert());
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!client.GetServerInfo().ok() && absl::Now() < deadline)
    absl::SleepFor(absl::Milliseconds(100));
  EXPECT_LT(absl::Now(), deadline);
}

TEST_F(CredentialsTest, UsesTheServingOneOfSeveralServers) {
  TestServer standby, active;
  standby.Serve(false);
  const auto client =
      WorkspaceClient::Connect(
          {.address = absl::StrCat("localhost:1,", standby.address(), ",",
                                   active.address())})
          .value();
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(client.GetServerInfo().status(), absl::OkStatus());
  EXPECT_EQ(active.service.calls(), 3);
  EXPECT_EQ(standby.service.calls(), 0);
}

TEST_F(CredentialsTest, MovesToTheNextServer) {
  TestServer first(Tls(authority_.Issue())), second(Tls(authority_.Issue()));
  second.Serve(false);
  const auto client =
      WorkspaceClient::Connect(
          {.address = absl::StrCat(first.address(), ",", second.address()),
           .ca_file = dir_.Path("ca.pem")})
          .value();
  EXPECT_EQ(client.GetServerInfo().status(), absl::OkStatus());
  first.Stop();
  second.Serve(true);
  const absl::Time began = absl::Now();
  EXPECT_EQ(client.GetServerInfo().status(), absl::OkStatus());
  // A call that must not be sent twice.
  EXPECT_EQ(client.Create("fraud").status(), absl::OkStatus());
  EXPECT_LT(absl::Now() - began, absl::Seconds(2));
  EXPECT_EQ(second.service.calls(), 2);
}

TEST_F(CredentialsTest, ReportsThatNoneOfSeveralServersServes) {
  const absl::Status error = Call({.address = "localhost:1,localhost:2",
                                   .repeatable_timeout = absl::Seconds(1)});
  EXPECT_THAT(error.code(),
              testing::AnyOf(absl::StatusCode::kUnavailable,
                             absl::StatusCode::kDeadlineExceeded));
}

}  // namespace
}  // namespace mlops
