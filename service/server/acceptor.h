#ifndef MLOPS_SERVICE_SERVER_ACCEPTOR_H_
#define MLOPS_SERVICE_SERVER_ACCEPTOR_H_

#include <poll.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
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

// The sockets on which the server listens, and the thread that accepts their
// connections. gRPC's own loop never accepts again after it once ran out of
// descriptors, takes the name of a Unix socket away from whoever listens on it,
// and does not say why it cannot bind. It keeps a descriptor of each
// connection, by which a client who does harm can be cut off: gRPC 1.51 bounds
// neither how many calls a client may open and reset, nor what they cost. Not
// thread-safe, except for NoteReset().
class Acceptor {
 public:
  // Takes over an accepted connection, and with it `fd`. Called from the
  // acceptor's thread.
  using Handler = std::function<void(int listener_fd, int fd)>;

  // Listens on all `addresses`, which CheckAddress() has accepted. Unix sockets
  // are for this user alone; a socket file that nobody listens on is replaced.
  // FAILED_PRECONDITION, as a sentence, if one is in use or may not be bound;
  // RESOURCE_EXHAUSTED if the disk is too full for the name of a socket.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Listen(
      std::vector<std::string> addresses);

  // Stop().
  ~Acceptor();

  // The addresses, with the ports picked where they were 0.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Begins to accept; to be called once. Until then connections wait. So that
  // the server's own files always find descriptors, connections beyond the
  // greater part of the process's limit are closed at once.
  void Start(Handler handler);

  // Ends the thread, closes the sockets and removes their files, unless others
  // have taken their place, and ends all connections.
  void Stop();

  // A client at `peer`, as gRPC names it, cancelled a call. Ends its
  // connection, and returns true, if it has done so kMaxResets times more than
  // kResetsPerSecond allow.
  bool NoteReset(const std::string& peer);
  static constexpr double kMaxResets = 1000;
  static constexpr double kResetsPerSecond = 100;

 private:
  Acceptor() = default;

  // A name that was given to a socket of ours.
  struct SocketFile {
    std::string path;
    dev_t device;
    ino_t inode;
  };

  struct Connection {
    base::UniqueFd fd;  // A duplicate of gRPC's.
    double resets = 0;  // That have not been forgiven yet.
    std::chrono::steady_clock::time_point last_reset;
  };

  absl::Status ListenUnix(const std::string& path);
  // Changes `address`, if its port is 0, to what was picked.
  absl::Status ListenTcp(std::string& address);
  absl::Status BindTcp(const std::string& host, std::string& port);
  void Run();
  void AcceptFrom(int listener);
  // Closes our descriptors of connections that gRPC has ended.
  void Forget(const std::vector<pollfd>& polled);

  std::vector<std::string> addresses_;
  std::vector<SocketFile> socket_files_;
  std::vector<base::UniqueFd> listeners_;
  Handler handler_;
  int max_descriptor_ = 0;
  // A pipe: closing the one end ends the thread.
  base::UniqueFd stop_read_, stop_write_;
  std::thread thread_;

  absl::Mutex mutex_;
  // By gRPC's name of the peer.
  absl::flat_hash_map<std::string, Connection> connections_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_ACCEPTOR_H_
