// Tests TlsCredentials with real certificates, a real gRPC server behind the
// server's own acceptor, and real clients.
#include "service/server/credentials.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <optional>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/security/credentials.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "proto/cpp/base/unique_fd.h"
#include "service/server/acceptor.h"
#include "service/server/grpc_settings.h"
#include "tests/support/certificates.h"
#include "tests/support/temp_dir.h"

namespace mlops::server {
namespace {

namespace v1 = workspace::v1;
using grpc::StatusCode;
using support::CertificateAuthority;
using support::Identity;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Answers with the names in the client's certificate, joined by spaces.
class NamesService final : public v1::WorkspaceService::Service {
  grpc::Status GetServerInfo(grpc::ServerContext* context,
                             const v1::GetServerInfoRequest*,
                             v1::ServerInfo* info) override {
    for (const std::string& name : CertificateNames(*context->auth_context()))
      info->add_features(name);
    return grpc::Status::OK;
  }
};

class CredentialsTest : public testing::Test {
 protected:
  void SetUp() override { Install(authority_.Issue()); }

  void TearDown() override {
    if (server_ == nullptr) return;
    acceptor_->Stop();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  void Install(const Identity& identity) const {
    dir_.WriteFile("cert.pem", identity.cert);
    dir_.WriteFile("key.pem", identity.key);
    dir_.WriteFile("ca.pem", authority_.cert());
  }

  TlsConfig Config(ClientCertificates auth = ClientCertificates::kNone) const {
    return {.cert_file = dir_.Path("cert.pem"),
            .key_file = dir_.Path("key.pem"),
            .client_ca_file =
                auth == ClientCertificates::kNone ? "" : dir_.Path("ca.pem"),
            .client_auth = auth};
  }

  absl::Status LoadError() const {
    return TlsCredentials::Load(Config(ClientCertificates::kOptional)).status();
  }

  void Serve(ClientCertificates auth = ClientCertificates::kNone) {
    tls_ = TlsCredentials::Load(Config(auth)).value();
    acceptor_ = Acceptor::Listen({"127.0.0.1:0"}).value();
    grpc::ServerBuilder builder;
    ApplyGrpcSettings(builder, grpc::ResourceQuota());
    connections_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        tls_->credentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    acceptor_->Start([this](Acceptor::Transport, int listener_fd, int fd) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters
          connection;
      connection.listener_fd = listener_fd;
      connection.fd = fd;
      connections_->HandleNewConnection(&connection);
    });
  }

  int port() const {
    int port = 0;
    const std::string& address = acceptor_->addresses().front();
    EXPECT_TRUE(
        absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    return port;
  }

  // Opens a connection of its own, which trusts only `authority`.
  std::shared_ptr<grpc::Channel> Connect(
      const CertificateAuthority& authority,
      const std::optional<Identity>& client = std::nullopt) const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority.cert();
    if (client) {
      options.pem_cert_chain = client->cert;
      options.pem_private_key = client->key;
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(absl::StrCat("localhost:", port()),
                                     grpc::SslCredentials(options), arguments);
  }

  static grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel,
                           v1::ServerInfo* info) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(10));
    return v1::WorkspaceService::NewStub(channel)->GetServerInfo(&context, {},
                                                                 info);
  }

  static StatusCode Code(const std::shared_ptr<grpc::Channel>& channel) {
    v1::ServerInfo info;
    return Call(channel, &info).error_code();
  }

  static std::vector<std::string> Names(
      const std::shared_ptr<grpc::Channel>& channel) {
    v1::ServerInfo info;
    const grpc::Status status = Call(channel, &info);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return {info.features().begin(), info.features().end()};
  }

  // A change takes effect at the second call that sees it.
  absl::StatusOr<bool> Reload() {
    const absl::StatusOr<bool> first = tls_->Reload();
    EXPECT_TRUE(first.ok() && !*first);
    return tls_->Reload();
  }

  const CertificateAuthority authority_;
  const CertificateAuthority other_authority_;
  const support::TempDir dir_;
  NamesService service_;
  std::unique_ptr<TlsCredentials> tls_;
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(CredentialsTest, ServesOnlyClientsThatTrustItsAuthority) {
  Serve();
  EXPECT_THAT(Names(Connect(authority_)), IsEmpty());
  EXPECT_EQ(Code(Connect(other_authority_)), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Code(grpc::CreateChannel(absl::StrCat("localhost:", port()),
                                     grpc::InsecureChannelCredentials())),
            StatusCode::UNAVAILABLE);
}

TEST_F(CredentialsTest, DoesNotAskForCertificatesUnlessConfigured) {
  Serve(ClientCertificates::kNone);
  EXPECT_THAT(Names(Connect(authority_, authority_.Issue())), IsEmpty());
}

TEST_F(CredentialsTest, NamesTheClientsOfAnOptionalCertificate) {
  Serve(ClientCertificates::kOptional);
  EXPECT_THAT(Names(Connect(authority_)), IsEmpty());
  const Identity robot = authority_.Issue(
      {.common_name = "robot",
       .names = "DNS:a.example,URI:spiffe://example/ns/robot,DNS:b.example"});
  EXPECT_THAT(Names(Connect(authority_, robot)),
              ElementsAre("spiffe://example/ns/robot", "a.example", "b.example",
                          "robot"));
  const Identity plain =
      authority_.Issue({.common_name = "robot", .names = ""});
  EXPECT_THAT(Names(Connect(authority_, plain)), ElementsAre("robot"));
}

TEST_F(CredentialsTest, RefusesClientsOfAnotherAuthority) {
  Serve(ClientCertificates::kOptional);
  EXPECT_EQ(Code(Connect(authority_, other_authority_.Issue())),
            StatusCode::UNAVAILABLE);
}

TEST_F(CredentialsTest, RefusesClientsWithAnExpiredCertificate) {
  Serve(ClientCertificates::kOptional);
  const Identity expired =
      authority_.Issue({.not_after = absl::Now() - absl::Minutes(1)});
  EXPECT_EQ(Code(Connect(authority_, expired)), StatusCode::UNAVAILABLE);
}

TEST_F(CredentialsTest, RefusesClientsWithoutARequiredCertificate) {
  Serve(ClientCertificates::kRequired);
  EXPECT_EQ(Code(Connect(authority_)), StatusCode::UNAVAILABLE);
  EXPECT_THAT(Names(Connect(authority_, authority_.Issue())),
              ElementsAre("localhost", "localhost"));
}

TEST_F(CredentialsTest, ReloadsBothFilesTogether) {
  Serve();
  const auto open = Connect(authority_);
  EXPECT_EQ(Code(open), StatusCode::OK);
  const absl::Time later =
      absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now() + absl::Hours(48)));
  const Identity renewed = other_authority_.Issue({.not_after = later});
  dir_.WriteFile("cert.pem", renewed.cert);
  // The key follows before the second look.
  EXPECT_FALSE(tls_->Reload().value());
  dir_.WriteFile("key.pem", renewed.key);
  EXPECT_TRUE(Reload().value());
  EXPECT_EQ(tls_->expiry(), later);
  EXPECT_EQ(tls_->reloads(), 1);
  EXPECT_EQ(tls_->failures(), 0);
  EXPECT_FALSE(tls_->Reload().value());
  EXPECT_EQ(Code(Connect(other_authority_)), StatusCode::OK);
  EXPECT_EQ(Code(Connect(authority_)), StatusCode::UNAVAILABLE);
  // The connection from before.
  EXPECT_EQ(Code(open), StatusCode::OK);
}

TEST_F(CredentialsTest, ReloadsTheClientAuthority) {
  Serve(ClientCertificates::kRequired);
  dir_.WriteFile("ca.pem", other_authority_.cert());
  EXPECT_TRUE(Reload().value());
  EXPECT_EQ(Code(Connect(authority_, other_authority_.Issue())),
            StatusCode::OK);
  EXPECT_EQ(Code(Connect(authority_, authority_.Issue())),
            StatusCode::UNAVAILABLE);
}

TEST_F(CredentialsTest, KeepsTheOldFilesIfTheNewOnesAreUnusable) {
  Serve(ClientCertificates::kOptional);
  const auto expect_refused = [this](absl::string_view why) {
    const absl::Status status = Reload().status();
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(why)));
    // Reported once.
    EXPECT_FALSE(tls_->Reload().value());
    EXPECT_EQ(Code(Connect(authority_)), StatusCode::OK);
  };
  dir_.WriteFile("cert.pem", "garbage");
  expect_refused("no PEM certificate");
  dir_.Remove("cert.pem");
  expect_refused("No such file");
  Install(authority_.Issue());
  dir_.WriteFile("key.pem", authority_.Issue().key);
  expect_refused("does not belong to");
  Install(authority_.Issue());
  dir_.WriteFile("ca.pem", "garbage");
  expect_refused("client CA");
  Install(authority_.Issue({.not_after = absl::Now() - absl::Minutes(1)}));
  expect_refused("it expired at");
  Install(authority_.Issue({.not_before = absl::Now() + absl::Minutes(30)}));
  expect_refused("not valid before");
  EXPECT_EQ(tls_->failures(), 6);
  EXPECT_EQ(tls_->reloads(), 0);
  Install(authority_.Issue());
  EXPECT_TRUE(Reload().value());
}

TEST_F(CredentialsTest, ReloadsUnderLoadWithoutAFailedCall) {
  Serve();
  std::atomic<bool> stop = false;
  std::atomic<int> calls = 0, failures = 0;
  const auto work = [&](bool reconnect) {
    auto channel = Connect(authority_);
    while (!stop) {
      if (reconnect) channel = Connect(authority_);
      failures += Code(channel) != StatusCode::OK;
      ++calls;
    }
  };
  std::thread steady(work, false), churning(work, true);
  for (int i = 0; i < 20; ++i) {
    if (i % 3 == 2) {
      dir_.WriteFile("cert.pem", "garbage");
      EXPECT_FALSE(Reload().ok());
    }
    Install(authority_.Issue());
    EXPECT_TRUE(Reload().value());
    absl::SleepFor(absl::Milliseconds(20));
  }
  stop = true;
  steady.join();
  churning.join();
  EXPECT_EQ(failures, 0);
  EXPECT_GT(calls, 40);
}

TEST_F(CredentialsTest, EndsHandshakesThatTakeTooLong) {
  Serve();
  sockaddr_in server = {.sin_family = AF_INET,
                        .sin_port = htons(static_cast<uint16_t>(port()))};
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // The first bytes of a ClientHello, or nothing.
  std::vector<base::UniqueFd> clients;
  for (const std::string& hello :
       {std::string(), std::string("\x16\x03\x01\x02\x00\x01", 6)}) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int fd = clients.back().get();
    ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&server),
                        sizeof(server)),
              0);
    ASSERT_EQ(::send(fd, hello.data(), hello.size(), 0),
              static_cast<ssize_t>(hello.size()));
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(6);
  for (const base::UniqueFd& client : clients) {
    pollfd ended = {.fd = client.get(), .events = POLLIN};
    const auto left = absl::ToInt64Milliseconds(deadline - absl::Now());
    EXPECT_EQ(::poll(&ended, 1, static_cast<int>(left)), 1);
    char byte;
    EXPECT_LE(::recv(client.get(), &byte, 1, 0), 0);
  }
}

TEST_F(CredentialsTest, LoadsACertificateThatHasExpired) {
  Install(authority_.Issue({.not_after = absl::Now() - absl::Minutes(1)}));
  const auto tls = TlsCredentials::Load(Config());
  ASSERT_TRUE(tls.ok()) << tls.status();
  EXPECT_THAT(std::string((*tls)->CheckValidity().message()),
              HasSubstr("it expired at"));
}

TEST_F(CredentialsTest, LoadsAChain) {
  dir_.WriteFile("cert.pem",
                 absl::StrCat(dir_.ReadFile("cert.pem"), authority_.cert()));
  EXPECT_EQ(LoadError(), absl::OkStatus());
}

TEST_F(CredentialsTest, NamesTheFileThatCannotBeLoaded) {
  const auto expect_error = [this](const std::string& file,
                                   const std::string& text,
                                   const std::string& why) {
    Install(authority_.Issue());
    dir_.WriteFile(file, text);
    const absl::Status error = LoadError();
    EXPECT_EQ(error.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(error.message()), HasSubstr(dir_.Path(file)));
    EXPECT_THAT(std::string(error.message()), HasSubstr(why));
    EXPECT_FALSE(absl::StrContains(error.message(), "PRIVATE KEY-----"));
  };
  const Identity good = authority_.Issue();
  expect_error("cert.pem", "", "no PEM certificate");
  expect_error("cert.pem", good.key, "no PEM certificate");
  expect_error("cert.pem", good.cert.substr(0, 300), "is malformed");
  expect_error("cert.pem", std::string(2 << 20, '\n'), "larger than 1 MiB");
  expect_error("cert.pem", std::string(3, '\0'), "not a PEM file");
  expect_error("key.pem", good.key, "does not belong to the first certificate");
  expect_error("key.pem", good.cert, "no PEM private key");
  expect_error("key.pem", support::Encrypted(good.key), "it is encrypted");
  expect_error("ca.pem", "garbage", "client CA");
}

TEST_F(CredentialsTest, DoesNotReadPipes) {
  dir_.Remove("key.pem");
  dir_.MakeFifo("key.pem");
  EXPECT_THAT(std::string(LoadError().message()), HasSubstr("not a file"));
}

TEST_F(CredentialsTest, NeedsAnAuthorityForClientCertificates) {
  TlsConfig config = Config(ClientCertificates::kRequired);
  config.client_ca_file.clear();
  EXPECT_THAT(std::string(TlsCredentials::Load(config).status().message()),
              HasSubstr("--tls-client-ca"));
}

}  // namespace
}  // namespace mlops::server
