#ifndef MLOPS_SERVICE_SERVER_ACCEPTOR_H_
#define MLOPS_SERVICE_SERVER_ACCEPTOR_H_

#include <poll.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::server {

// Owns the sockets on which the server listens, and the thread that accepts
// connections and hands them to gRPC. gRPC's own accept loop has three defects:
// it stops accepting for good once it runs out of descriptors, it takes a Unix
// socket's name from the server that listens on it, and it does not report why
// it cannot bind.
//
// Keeps a duplicate descriptor of each connection, so that it can disconnect an
// abusive client: gRPC 1.51 limits neither how many calls a client may open and
// reset, nor their cost.
//
// Not thread-safe, except for NoteReset(), Disconnect(), SocketPeerOf() and
// counts().
class Acceptor {
 public:
  enum class Transport { kUnix, kTcp };
  // Takes over an accepted connection and owns `fd`. Runs on the acceptor's
  // thread.
  using Handler =
      std::function<void(Transport transport, int listener_fd, int fd)>;

  // Listens on all `addresses`, which CheckAddress() must have accepted.
  // Only this user, and the members of `socket_group` if given, can connect
  // to Unix sockets. Replaces a socket file that no process listens on.
  // Errors are sentences for the operator:
  //   FAILED_PRECONDITION if an address is in use or cannot be bound,
  //     or this user cannot give a socket to the group;
  //   RESOURCE_EXHAUSTED if the disk is too full for a socket file.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Listen(
      std::vector<std::string> addresses,
      std::optional<gid_t> socket_group = std::nullopt);

  // Calls Stop().
  ~Acceptor();

  // Also listens on the Unix socket `path` for a proxy, as Listen() does. Only
  // this user, and the members of `group` if given, can connect to it.
  // addresses() does not contain it, because no other client may use it. Must
  // be called before Start(). Returns the errors of Listen().
  absl::Status ListenForProxy(const std::string& path,
                              std::optional<gid_t> group);

  // The addresses, with the actual port where port 0 was requested.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Starts accepting connections; until then they are queued. Must be called
  // once. Closes new connections at once if most of the process's descriptors
  // are in use, so that the server can still open its own files.
  void Start(Handler handler);

  // Joins the thread, closes the sockets, and ends all connections.
  // Removes the socket files, unless another process has replaced them.
  void Stop();

  // Records that the client at `peer`, as gRPC names it, cancelled a call. If
  // the client has exceeded kResetsPerSecond by kMaxResets calls, or
  // kBurstResetsPerSecond by kMaxBurstResets calls, ends its connection and
  // returns true. Each connection ended this way halves both maxima for all
  // connections, down to 1/32, and is forgotten after kForgetTime. A client
  // that reconnects again and again thus costs the server ever less.
  //
  // gRPC reads what a socket holds, up to thousands of calls, before the
  // connection can be ended. For kForgetTime, the process at the other end of
  // the Unix socket, or the IP address, therefore gets at most one new
  // connection in kConnectInterval; others wait. The processes of a user in
  // other PID namespaces count as one. The proxy is exempt, because it connects
  // for many users.
  bool NoteReset(const std::string& peer);
  static constexpr double kMaxResets = 1000;
  static constexpr double kResetsPerSecond = 100;
  // An identified caller, who has at most 256 calls in flight by default, may
  // cancel all of them at once.
  static constexpr double kMaxBurstResets = 300;
  static constexpr double kBurstResetsPerSecond = 10000;
  static constexpr std::chrono::seconds kForgetTime{10};
  static constexpr std::chrono::seconds kConnectInterval{1};

  // Ends the connection of the client at `peer`. Returns false if there is
  // none.
  bool Disconnect(const std::string& peer);

  // The process that connected to a Unix socket.
  struct SocketPeer {
    uid_t user;
    // Whether the process connected to the socket of ListenForProxy().
    bool proxy;
  };
  // Returns the process that connected to a Unix socket as `peer`, or nullopt
  // for other peers.
  std::optional<SocketPeer> SocketPeerOf(const std::string& peer) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  struct Counts {
    // Number of open connections.
    size_t open = 0;
    // Total connections: handed to gRPC, refused because most descriptors were
    // in use, ended by NoteReset() or Disconnect(), and those that had to wait
    // after NoteReset(), or were closed because too many waited.
    uint64_t accepted = 0;
    uint64_t refused = 0;
    uint64_t cut = 0;
    uint64_t slowed = 0;
  };
  Counts counts() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  Acceptor() = default;

  // A socket file that we created, identified by device and inode.
  struct SocketFile {
    std::string path;
    dev_t device;
    ino_t inode;
  };

  // Counts events; the level sinks by `per_second`.
  struct LeakyBucket {
    // Returns the level at `now`.
    double Drain(TimePoint now, double per_second);

    double level = 0;
    TimePoint last;
  };

  struct Connection {
    // A duplicate of gRPC's descriptor.
    base::UniqueFd fd;
    std::optional<SocketPeer> peer;
    std::string origin;
    LeakyBucket resets;
    LeakyBucket burst;
  };
  struct Listener {
    base::UniqueFd fd;
    Transport transport;
    // Whether the proxy connects to it.
    bool proxy = false;
  };
  // An accepted connection.
  struct Accepted {
    base::UniqueFd fd;
    const Listener* listener;
    // Nullopt for TCP.
    std::optional<SocketPeer> peer;
    // The process or IP address at the other end; "" for the proxy, and if the
    // kernel does not tell it.
    std::string origin;
  };
  // When an origin whose connection was ended by NoteReset() may connect again.
  struct Slowed {
    TimePoint next;
    // From then on it may connect as others do.
    TimePoint end;
  };

  absl::Status ListenUnix(const std::string& path, std::optional<gid_t> group,
                          bool proxy);
  void Run();
  void AcceptFrom(const Listener& listener);
  void Count(uint64_t Counts::*count) ABSL_LOCKS_EXCLUDED(mutex_);
  void HandOver(Accepted accepted) ABSL_LOCKS_EXCLUDED(mutex_);
  // Hands over the held connections whose origins may connect now.
  void ReleaseHeld();
  // Returns whether `origin` may connect now. If it is slowed, its next
  // connection must then wait.
  bool MayConnect(const std::string& origin) ABSL_LOCKS_EXCLUDED(mutex_);
  // Closes our descriptors of the connections that have ended.
  void Forget(const std::vector<pollfd>& polled);

  std::vector<std::string> addresses_;
  std::vector<SocketFile> socket_files_;
  std::vector<Listener> listeners_;
  Handler handler_;
  int max_descriptor_ = 0;
  // A pipe; closing the write end stops the thread.
  base::UniqueFd stop_read_, stop_write_;
  std::thread thread_;
  // Connections that wait until their origins may connect. Accessed by the
  // thread only.
  std::vector<Accepted> held_;

  mutable absl::Mutex mutex_;
  // All counts except `open`.
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  // Keyed by the peer's name in gRPC.
  absl::flat_hash_map<std::string, Connection> connections_
      ABSL_GUARDED_BY(mutex_);
  // Counts the connections that NoteReset() has ended.
  LeakyBucket ended_ ABSL_GUARDED_BY(mutex_);
  // Keyed by origin.
  absl::flat_hash_map<std::string, Slowed> slowed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_ACCEPTOR_H_
