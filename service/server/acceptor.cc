#include "service/server/acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/status_macros.h"
#include "service/server/tcp_listener.h"

namespace mlops::server {
namespace {

using base::UniqueFd;

// Descriptors reserved for the files of running calls.
constexpr int kReservedDescriptors = 256;
// Delay before the next accept(2) after one has failed for lack of a resource.
constexpr absl::Duration kPause = absl::Milliseconds(20);
// Connections ended for resets halve the maximum at most this many times.
constexpr double kMaxHalvings = 5;
// Connections of slowed origins that wait; others are closed.
constexpr size_t kMaxHeld = 64;
constexpr int kHeldPollMs = 50;

// Returns an error for the operator. A full disk has its own code, because the
// caller can then use a socket elsewhere.
absl::Status CannotListen(absl::string_view address, int error) {
  const std::string message =
      absl::StrCat("cannot listen on ", address, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT)
    return absl::ResourceExhaustedError(message);
  return absl::FailedPreconditionError(message);
}

void SetOption(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof(value));
}

// Number of the Unix connection that this thread is handing to gRPC, or 0 for
// none. Peers of Unix sockets have no names.
thread_local uint64_t unix_connection = 0;

// Makes the system call directly, because this file replaces getpeername(2).
int SystemPeerName(int fd, sockaddr* name, socklen_t* size) {
  return static_cast<int>(::syscall(SYS_getpeername, fd, name, size));
}

// Returns the name that gRPC will give to the peer of `fd`, which
// CallbackServerContext::peer() returns.
std::string PeerName(int fd) {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(storage);
  auto* const name = reinterpret_cast<sockaddr*>(&storage);
  if (SystemPeerName(fd, name, &size) != 0) return "";
  // Give each Unix connection a unique name; getpeername() below reports it to
  // gRPC.
  if (name->sa_family == AF_UNIX) {
    static std::atomic<uint64_t> last = 0;
    unix_connection = ++last;
    return absl::StrCat("unix-abstract:client-", unix_connection);
  }
  unix_connection = 0;
  char host[INET6_ADDRSTRLEN] = "";
  const in_port_t port = ntohs(PortIn(*name));
  if (name->sa_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(name)->sin_addr, host,
                sizeof(host));
    return absl::StrCat("ipv4:", host, ":", port);
  }
  const in6_addr& address = reinterpret_cast<sockaddr_in6*>(name)->sin6_addr;
  // gRPC shows an IPv4 client of a dual-stack socket with its IPv4 address.
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    ::inet_ntop(AF_INET, &address.s6_addr[12], host, sizeof(host));
    return absl::StrCat("ipv4:", host, ":", port);
  }
  ::inet_ntop(AF_INET6, &address, host, sizeof(host));
  // gRPC percent-encodes the brackets of an IPv6 address.
  return absl::StrCat("ipv6:%5B", host, "%5D:", port);
}

std::string WithoutPort(const std::string& name) {
  return name.substr(0, name.rfind(':'));
}

// Returns the process at the other end of a Unix socket.
std::optional<ucred> ProcessAt(int fd) {
  ucred process;
  socklen_t size = sizeof(process);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &process, &size) != 0)
    return std::nullopt;
  return process;
}

// Ends a connection and discards all received bytes that gRPC has not read.
void EndConnection(int fd) {
  // Make gRPC's close(2) reset a TCP connection. Otherwise a client that is
  // still sending into a closed window would learn of the end only after the
  // kernel's timeout of a minute.
  const linger reset = {.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  ::shutdown(fd, SHUT_RDWR);
  // Drain the socket, so that gRPC sees the end at once. Bound the loop,
  // because the client may keep sending.
  char buffer[1 << 16];
  for (int i = 0;
       i < 1000 && ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0; ++i) {
  }
}

int MaxDescriptor() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t most = std::min<rlim_t>(limit.rlim_cur, 1 << 30);
  // Reserve at most half of a small limit.
  return static_cast<int>(most -
                          std::min<rlim_t>(most / 2, kReservedDescriptors));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Listen(
    std::vector<std::string> addresses, std::optional<gid_t> socket_group) {
  auto acceptor = std::unique_ptr<Acceptor>(new Acceptor());
  // Closing the write end wakes the thread from poll(2).
  int ends[2];
  if (::pipe(ends) != 0)
    return CannotListen("any address", std::strerror(errno));
  acceptor->stop_read_.Reset(ends[0]);
  acceptor->stop_write_.Reset(ends[1]);
  for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
  for (std::string& address : addresses) {
    absl::string_view path = address;
    if (absl::ConsumePrefix(&path, "unix:")) {
      RETURN_IF_ERROR(acceptor->ListenUnix(std::string(path), socket_group,
                                           /*proxy=*/false));
      continue;
    }
    ASSIGN_OR_RETURN(auto listeners, ListenTcp(address));
    for (UniqueFd& fd : listeners)
      acceptor->listeners_.push_back({std::move(fd), Transport::kTcp});
  }
  acceptor->addresses_ = std::move(addresses);
  return acceptor;
}

absl::Status Acceptor::ListenForProxy(const std::string& path,
                                      std::optional<gid_t> group) {
  return ListenUnix(path, group, /*proxy=*/true);
}

absl::Status Acceptor::ListenUnix(const std::string& path,
                                  std::optional<gid_t> group, bool proxy) {
  const std::string address = absl::StrCat("unix:", path);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  const auto* const raw_name = reinterpret_cast<const sockaddr*>(&name);
  const UniqueFd probe = NewSocket(AF_UNIX);
  // EAGAIN means that a server listens, but its queue is full.
  if (::connect(probe.get(), raw_name, sizeof(name)) == 0 || errno == EAGAIN) {
    return CannotListen(address, "another server listens on it");
  }
  // No server listens, so the file is a leftover. bind(2) fails unless it is
  // removed.
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode))
    ::unlink(path.c_str());
  UniqueFd fd = NewSocket(AF_UNIX);
  // Set the mode through the umask. A chmod after the creation would follow a
  // symbolic link that another process put there in between.
  const mode_t old_umask = ::umask(group.has_value() ? 0117 : 0177);
  const bool bound = fd.ok() && ::bind(fd.get(), raw_name, sizeof(name)) == 0;
  const int bind_error = errno;
  ::umask(old_umask);
  if (!bound) return CannotListen(address, bind_error);
  if (group.has_value() &&
      ::lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return CannotListen(
        address, absl::StrCat("cannot give the socket to the group ", *group,
                              ": ", std::strerror(error),
                              "; run the server as a member of that group"));
  }
  if (::listen(fd.get(), kBacklog) != 0 || ::lstat(path.c_str(), &info) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return CannotListen(address, error);
  }
  // Remember the file's identity, so that Stop() removes only this file.
  socket_files_.push_back({path, info.st_dev, info.st_ino});
  listeners_.push_back({std::move(fd), Transport::kUnix, proxy});
  return absl::OkStatus();
}

void Acceptor::Start(Handler handler) {
  handler_ = std::move(handler);
  max_descriptor_ = MaxDescriptor();
  thread_ = std::thread([this] { Run(); });
}

Acceptor::~Acceptor() { Stop(); }

void Acceptor::Stop() {
  stop_write_.Reset();
  // Join first: the thread uses the listeners and adds connections.
  if (thread_.joinable()) thread_.join();
  held_.clear();
  listeners_.clear();
  // Compare the identity: if the base was removed and recreated, the name may
  // now belong to another server's socket.
  for (const auto& [path, device, inode] : std::exchange(socket_files_, {})) {
    struct stat info;
    if (::lstat(path.c_str(), &info) == 0 && info.st_dev == device &&
        info.st_ino == inode)
      ::unlink(path.c_str());
  }
  absl::MutexLock lock(&mutex_);
  for (const auto& [peer, connection] : connections_)
    ::shutdown(connection.fd.get(), SHUT_RDWR);
}

double Acceptor::LeakyBucket::Drain(TimePoint now, double per_second) {
  const double seconds = std::chrono::duration<double>(now - last).count();
  last = now;
  level = std::max(0.0, level - seconds * per_second);
  return level;
}

bool Acceptor::NoteReset(const std::string& peer) {
  {
    absl::MutexLock lock(&mutex_);
    const auto it = connections_.find(peer);
    if (it == connections_.end()) return false;
    const auto now = std::chrono::steady_clock::now();
    LeakyBucket& resets = it->second.resets;
    LeakyBucket& burst = it->second.burst;
    resets.Drain(now, kResetsPerSecond);
    burst.Drain(now, kBurstResetsPerSecond);
    ++resets.level;
    ++burst.level;
    // Each connection ended recently halves the maxima, so that a client gains
    // little by reconnecting.
    const double halvings = ended_.Drain(now, 1.0 / kForgetTime.count());
    const double part = std::exp2(-halvings);
    if (resets.level <= kMaxResets * part &&
        burst.level <= kMaxBurstResets * part)
      return false;
    ended_.level = std::min(halvings + 1, kMaxHalvings);
    absl::erase_if(
        slowed_, [now](const auto& entry) { return entry.second.end <= now; });
    if (const std::string& origin = it->second.origin; !origin.empty()) {
      slowed_[origin] = {.next = now + kConnectInterval,
                         .end = now + kForgetTime};
    }
  }
  return Disconnect(peer);
}

bool Acceptor::Disconnect(const std::string& peer) {
  UniqueFd fd;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = connections_.find(peer);
    if (it == connections_.end()) return false;
    fd = std::move(it->second.fd);
    connections_.erase(it);
    ++counts_.cut;
  }
  // Reads what has arrived, so it must not hold the lock.
  EndConnection(fd.get());
  return true;
}

std::optional<Acceptor::SocketPeer> Acceptor::SocketPeerOf(
    const std::string& peer) const {
  absl::MutexLock lock(&mutex_);
  const auto it = connections_.find(peer);
  return it == connections_.end() ? std::nullopt : it->second.peer;
}

Acceptor::Counts Acceptor::counts() const {
  absl::MutexLock lock(&mutex_);
  Counts counts = counts_;
  counts.open = connections_.size();
  return counts;
}

void Acceptor::Run() {
  std::vector<pollfd> polled;
  while (true) {
    polled = {{.fd = stop_read_.get(), .events = POLLIN}};
    for (const Listener& listener : listeners_)
      polled.push_back({.fd = listener.fd.get(), .events = POLLIN});
    // Poll the connections too, to notice when they end. Without events,
    // poll(2) reports only errors and hang-ups.
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [peer, connection] : connections_)
        polled.push_back({.fd = connection.fd.get(), .events = 0});
    }
    const int timeout_ms = held_.empty() ? -1 : kHeldPollMs;
    if (::poll(polled.data(), polled.size(), timeout_ms) < 0) continue;
    if (polled.front().revents != 0) return;
    // Forget first: a new connection could reuse the descriptor number of one
    // that has ended.
    Forget(polled);
    for (size_t i = 1; i <= listeners_.size(); ++i) {
      if (polled[i].revents != 0) AcceptFrom(listeners_[i - 1]);
    }
    ReleaseHeld();
  }
}

void Acceptor::Forget(const std::vector<pollfd>& polled) {
  absl::flat_hash_set<int> ended;
  for (size_t i = 1 + listeners_.size(); i < polled.size(); ++i) {
    if (polled[i].revents != 0) ended.insert(polled[i].fd);
  }
  if (ended.empty()) return;
  absl::MutexLock lock(&mutex_);
  absl::erase_if(connections_, [&](const auto& entry) {
    return ended.contains(entry.second.fd.get());
  });
}

void Acceptor::AcceptFrom(const Listener& listener) {
  UniqueFd fd(::accept(listener.fd.get(), nullptr, nullptr));
  if (!fd.ok()) {
    // Pause when descriptors or memory have run out, because poll(2) would
    // return at once.
    const bool transient =
        errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (!transient) absl::SleepFor(kPause);
    return;
  }
  // The kernel assigns the lowest free number, so a high number means that many
  // descriptors are in use. Returning closes the connection.
  if (fd.get() >= max_descriptor_) return Count(&Counts::refused);
  Accepted accepted = {
      .fd = std::move(fd), .listener = &listener, .peer = {}, .origin = ""};
  if (listener.transport == Transport::kTcp) {
    accepted.origin = WithoutPort(PeerName(accepted.fd.get()));
  } else if (const auto process = ProcessAt(accepted.fd.get())) {
    accepted.peer = {.user = process->uid, .proxy = listener.proxy};
    if (!listener.proxy)
      accepted.origin = absl::StrCat(process->uid, " ", process->pid);
  }
  if (MayConnect(accepted.origin)) return HandOver(std::move(accepted));
  Count(&Counts::slowed);
  if (held_.size() < kMaxHeld) held_.push_back(std::move(accepted));
}

void Acceptor::Count(uint64_t Counts::*count) {
  absl::MutexLock lock(&mutex_);
  ++(counts_.*count);
}

bool Acceptor::MayConnect(const std::string& origin) {
  const TimePoint now = std::chrono::steady_clock::now();
  absl::MutexLock lock(&mutex_);
  const auto it = slowed_.find(origin);
  if (it == slowed_.end() || now >= it->second.end) return true;
  if (now < it->second.next) return false;
  it->second.next = now + kConnectInterval;
  return true;
}

void Acceptor::ReleaseHeld() {
  std::vector<Accepted> waiting;
  for (Accepted& held : std::exchange(held_, {})) {
    if (MayConnect(held.origin)) {
      HandOver(std::move(held));
    } else {
      waiting.push_back(std::move(held));
    }
  }
  held_ = std::move(waiting);
}

void Acceptor::HandOver(Accepted accepted) {
  UniqueFd fd = std::move(accepted.fd);
  const Listener& listener = *accepted.listener;
  SetSocketFlags(fd.get());
  // A Unix socket rejects this option, which does no harm.
  SetOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  // The duplicate lets us end the connection after gRPC has taken over `fd`.
  UniqueFd ours(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  std::string name = PeerName(fd.get());
  if (!ours.ok() || name.empty()) return;
  // Register the connection before gRPC can ask for its peer.
  {
    absl::MutexLock lock(&mutex_);
    connections_[std::move(name)] = {.fd = std::move(ours),
                                     .peer = accepted.peer,
                                     .origin = std::move(accepted.origin),
                                     .resets = {},
                                     .burst = {}};
    ++counts_.accepted;
  }
  handler_(listener.transport, listener.fd.get(), fd.Release());
  // From here on, getpeername() on this thread reports the system's names.
  unix_connection = 0;
}

}  // namespace mlops::server

// Replaces the C library's function. gRPC calls it when it takes over a
// connection, and identifies the connection by the result. Peers of Unix
// sockets have no names, so gRPC could not tell them apart. This function
// returns a unique name on the thread that hands the connection over.
extern "C" int getpeername(int fd, sockaddr* name, socklen_t* size) noexcept {
  const socklen_t room = *size;
  const int result = mlops::server::SystemPeerName(fd, name, size);
  if (result != 0 || mlops::server::unix_connection == 0 ||
      name->sa_family != AF_UNIX)
    return result;
  // A name in the abstract namespace begins with a NUL and does not end with
  // one.
  const std::string text =
      absl::StrCat("client-", mlops::server::unix_connection);
  sockaddr_un named = {.sun_family = AF_UNIX};
  text.copy(named.sun_path + 1, sizeof(named.sun_path) - 1);
  *size =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  // Like the system call, truncate the name but return its full size.
  std::memcpy(name, &named, std::min(room, *size));
  return 0;
}
