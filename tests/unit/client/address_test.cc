#include "client-cpp/src/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::internal {
namespace {

using testing::HasSubstr;

std::string FieldOf(const absl::Status& error) {
  return ErrorMetadata(error)["field"];
}

class AddressTest : public testing::Test {
 protected:
  AddressTest() {
    unsetenv("MLOPS_WORKSPACE_ADDRESS");
    std::filesystem::create_directory(base_ / ".workspaced");
  }
  ~AddressTest() override {
    unsetenv("MLOPS_WORKSPACE_ADDRESS");
    std::filesystem::remove_all(base_);
  }

  static std::filesystem::path MakeTempDir() {
    std::string name = testing::TempDir() + "address_test_XXXXXX";
    return mkdtemp(name.data());
  }

  static std::string ThisHost() {
    char name[256] = {};
    gethostname(name, sizeof(name) - 1);
    return name;
  }

  void WriteLock(const std::string& text) {
    std::ofstream(base_ / ".workspaced" / "lock") << text;
  }

  static void MakeSocket(const std::filesystem::path& path) {
    sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = {}};
    ASSERT_LT(path.string().size(), sizeof(name.sun_path));
    path.string().copy(name.sun_path, sizeof(name.sun_path) - 1);
    const base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)),
              0);
  }

  absl::StatusOr<std::string> Find() const {
    return ResolveAddress({.base_path = base_.string()});
  }

  const std::filesystem::path base_ = MakeTempDir();
  const std::string default_socket_ =
      (base_ / ".workspaced" / "socket").string();
};

TEST_F(AddressTest, AnAddressIsTakenAsItIs) {
  for (const char* address : {"unix:/run/s", "unix:relative", "localhost:50051",
                              "[::1]:1", "host.example:65535", "https://a:1",
                              "http://a:1", "a:1,b:2", "unix:/a,b"}) {
    EXPECT_EQ(ResolveAddress({.address = address}).value_or("error"), address);
  }
}

TEST_F(AddressTest, ListsMayHaveSpaces) {
  EXPECT_EQ(SplitAddresses("a:1, b:2 "),
            (std::vector<std::string>{"a:1", "b:2"}));
  EXPECT_TRUE(ResolveAddress({.address = "a:1, b:2"}).ok());
}

TEST_F(AddressTest, GrpcGetsAUri) {
  EXPECT_EQ(MakeGrpcTarget("unix:/a b/%41#?/é\xFF")->uri,
            "unix:/a%20b/%2541%23%3F/%C3%A9%FF");
  EXPECT_EQ(MakeGrpcTarget("[::1]:50051")->uri, "[::1]:50051");
}

TEST_F(AddressTest, ADirectoryWithACommaIsNamedByItsDescriptor) {
  const std::filesystem::path directory = base_ / "a,b";
  const std::string socket = absl::StrCat("unix:", directory.string(), "/s 1");
  EXPECT_EQ(MakeGrpcTarget(socket).status().code(),
            absl::StatusCode::kUnavailable);
  std::filesystem::create_directory(directory);
  const auto target = MakeGrpcTarget(socket);
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->uri, absl::StrCat("unix:/proc/self/fd/",
                                      target->directory.get(), "/s%201"));
  EXPECT_TRUE(std::filesystem::equivalent(
      absl::StrCat("/proc/self/fd/", target->directory.get()), directory));
  EXPECT_THAT(std::string(MakeGrpcTarget("unix:/a/b,c").status().message()),
              HasSubstr("comma"));
}

TEST_F(AddressTest, IllFormedAddressesAreRefused) {
  for (const std::string& address :
       {std::string("localhost"), std::string(":50051"), std::string("host:"),
        std::string("host:0"), std::string("host:65536"),
        std::string("host:http"), std::string("ftp://host:80"),
        std::string("https://host"), std::string("http://host:80/"),
        std::string("a:1,b"), std::string("a:1,"), std::string("a:1,unix:/b"),
        std::string("unix:"), absl::StrCat("unix:/", std::string(107, 'x'))}) {
    const absl::Status error = ResolveAddress({.address = address}).status();
    EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_EQ(ErrorReason(error), "FIELD_INVALID") << address;
    EXPECT_EQ(FieldOf(error), "address");
  }
}

TEST_F(AddressTest, TheEnvironmentIsTheDefault) {
  setenv("MLOPS_WORKSPACE_ADDRESS", "unix:/run/env", 1);
  EXPECT_EQ(ResolveAddress({}).value_or("error"), "unix:/run/env");
  EXPECT_EQ(ResolveAddress({.address = "unix:/run/own"}).value_or("error"),
            "unix:/run/own");
  setenv("MLOPS_WORKSPACE_ADDRESS", "nonsense", 1);
  EXPECT_EQ(FieldOf(ResolveAddress({}).status()), "MLOPS_WORKSPACE_ADDRESS");
}

TEST_F(AddressTest, NoneOrTwoAreRefused) {
  EXPECT_EQ(FieldOf(ResolveAddress({}).status()), "address");
  EXPECT_EQ(
      FieldOf(ResolveAddress({.address = "unix:/run/s", .base_path = "/b"})
                  .status()),
      "address");
}

TEST_F(AddressTest, TheLockNamesTheSocket) {
  const std::string socket = (base_ / "elsewhere").string();
  MakeSocket(socket);
  WriteLock(absl::StrCat(
      R"({"pid":1,"host":")", ThisHost(),
      R"(","addresses":["127.0.0.1:5","unix:)", socket,
      R"("],"version":"0.1.0","start_time":"2026-01-01T00:00:00Z"})"));
  EXPECT_EQ(Find().value_or("error"), "unix:" + socket);
}

TEST_F(AddressTest, TheSocketIsFoundWithoutAReadableLock) {
  MakeSocket(default_socket_);
  EXPECT_EQ(Find().value_or("error"), "unix:" + default_socket_);
  for (const char* text : {"", "not json", "[]", R"({"addresses": 3})",
                           R"({"addresses": [3], "host": 4})"}) {
    WriteLock(text);
    EXPECT_EQ(Find().value_or("error"), "unix:" + default_socket_) << text;
  }
}

TEST_F(AddressTest, TheBasesOwnSocketComesBeforeOneOfACopiedLock) {
  const std::string other = (base_ / "of-another-base").string();
  MakeSocket(other);
  MakeSocket(default_socket_);
  WriteLock(absl::StrCat(R"({"addresses":["unix:)", other, R"("]})"));
  EXPECT_EQ(Find().value_or("error"), "unix:" + default_socket_);
}
TEST_F(AddressTest, ABaseThatWasMovedStillHasItsSocket) {
  MakeSocket(default_socket_);
  WriteLock(R"({"addresses":["unix:/no/such/place/socket"]})");
  EXPECT_EQ(Find().value_or("error"), "unix:" + default_socket_);
}

TEST_F(AddressTest, ARelativeBasePathWorks) {
  MakeSocket(default_socket_);
  const auto relative = std::filesystem::relative(base_);
  EXPECT_THAT(
      ResolveAddress({.base_path = relative.string()}).value_or("error"),
      HasSubstr("/.workspaced/socket"));
}

TEST_F(AddressTest, TcpServesWhereThereIsNoSocket) {
  WriteLock(
      R"({"addresses":["unix:/no/such/place/socket","127.0.0.1:50051"]})");
  EXPECT_EQ(Find().value_or("error"), "127.0.0.1:50051");
  WriteLock(R"({"addresses":["0.0.0.0:50051"]})");
  EXPECT_EQ(Find().value_or("error"), "localhost:50051");
}

TEST_F(AddressTest, AServerOnAnotherHostIsReachedByTcp) {
  MakeSocket(default_socket_);
  WriteLock(
      R"({"host":"far.example","addresses":["unix:/run/s","127.0.0.1:50051","10.0.0.7:50051"]})");
  EXPECT_EQ(Find().value_or("error"), "10.0.0.7:50051");
  WriteLock(R"({"host":"far.example","addresses":["[::]:50051"]})");
  EXPECT_EQ(Find().value_or("error"), "far.example:50051");
}

TEST_F(AddressTest, WhatAnswersHereIsHereWhateverTheLockSays) {
  MakeSocket(default_socket_);
  WriteLock(R"({"host":"a-container-of-old","addresses":["unix:/run/s"]})");
  EXPECT_FALSE(Find().ok());
  const int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  default_socket_.copy(name.sun_path, sizeof(name.sun_path) - 1);
  ::unlink(default_socket_.c_str());
  ASSERT_EQ(
      ::bind(listener, reinterpret_cast<const sockaddr*>(&name), sizeof(name)),
      0);
  ASSERT_EQ(::listen(listener, 1), 0);
  EXPECT_EQ(Find().value_or("error"), "unix:" + default_socket_);
  ::close(listener);
}

TEST_F(AddressTest, AnUnreachableServerOnAnotherHostIsNamed) {
  WriteLock(
      R"({"host":"far.example","addresses":["unix:/run/s","127.0.0.1:50051"]})");
  const absl::Status error = Find().status();
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(error.message()), HasSubstr("far.example"));
  EXPECT_THAT(std::string(error.message()), HasSubstr("127.0.0.1:50051"));
}

TEST_F(AddressTest, ABaseThatNobodyServesIsUnavailable) {
  const absl::Status error = Find().status();
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(error.message()), HasSubstr(base_.string()));
}

TEST(IsLocal, KnowsSocketsAndLoopback) {
  for (const char* local :
       {"unix:/s", "localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1",
        "https://localhost:1", "http://127.0.0.1:1"}) {
    EXPECT_TRUE(IsLocal(local)) << local;
  }
  for (const char* far : {"example.com:1", "127.example.org:1", "10.0.0.1:1",
                          "[2001:db8::1]:1", "https://a:1"})
    EXPECT_FALSE(IsLocal(far)) << far;
}

}  // namespace
}  // namespace mlops::internal
