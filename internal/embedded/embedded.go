// Package embedded runs a NATS server in the process, for `go run .` and for tests. It is
// the real server with a real file store, without the network.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startTimeout bounds the time until a server has restored its store and is ready.
const startTimeout = 30 * time.Second

// Server is a running server.
type Server struct {
	dir    string
	listen *net.TCPAddr                  // nil: within the process only
	user   *url.Userinfo                 // that every client needs; nil: none
	server atomic.Pointer[server.Server] // clients dial while it restarts
	lock   *flock.Flock
	temp   string // removed at the end; "" for a store that stays
}

// ErrInUse is returned by Start if another server has the store open.
var ErrInUse = errors.New("the store is in use by another process")

// Option changes a Server.
type Option func(*Server)

// Listen accepts clients of other processes at a TCP address. Without [User], the server
// does not authenticate them. It does not encrypt: use a loopback address.
func Listen(addr *net.TCPAddr) Option { return func(s *Server) { s.listen = addr } }

// User makes the server refuse clients without this user name and password. [Server.Connect]
// and [Server.URL] have them. The user may do everything.
func User(name, password string) Option {
	return func(s *Server) { s.user = url.UserPassword(name, password) }
}

// Start runs a server on a store directory, which it makes if it is missing. If dir is "",
// the store is a temporary one, which Close removes.
func Start(dir string, opts ...Option) (*Server, error) {
	s := &Server{dir: dir}
	for _, o := range opts {
		o(s)
	}
	if dir == "" {
		temp, err := os.MkdirTemp("", "ordertrail-")
		if err != nil {
			return nil, fmt.Errorf("make a temporary store: %w", err)
		}
		s.temp, s.dir = temp, temp
	}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	// A server does not detect a second one on its store: both would assign the same
	// sequences.
	s.lock = flock.New(filepath.Join(s.dir, "ordertrail.lock"))
	locked, err := s.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock the store %s: %w", s.dir, err)
	}
	if !locked {
		return fmt.Errorf("%w: %s: stop that process, or use another directory", ErrInUse, s.dir)
	}
	return s.start()
}

func (s *Server) start() error {
	o := &server.Options{
		ServerName: "ordertrail",
		DontListen: s.listen == nil,
		JetStream:  true,
		StoreDir:   s.dir,
		NoSigs:     true,
		NoLog:      true,
		// The server acknowledges messages before it syncs them. A demo may lose the last
		// second in a power failure.
		SyncInterval: time.Second,
	}
	if s.user != nil {
		o.Username = s.user.Username()
		o.Password, _ = s.user.Password()
	}
	if s.listen != nil {
		o.Host, o.Port = s.listen.IP.String(), s.listen.Port
		if s.listen.IP == nil {
			o.Host = "127.0.0.1"
		}
		// If the port is taken, the server itself reports no error and is never ready.
		l, err := net.ListenTCP("tcp", s.listen)
		if err != nil {
			return fmt.Errorf("listen for NATS clients: %w", err)
		}
		if err := l.Close(); err != nil {
			return err
		}
		if o.Port == 0 {
			o.Port = server.RANDOM_PORT
		}
	}
	running, err := run(o)
	if err != nil {
		return err
	}
	s.server.Store(running)
	return nil
}

// run starts a server and waits until clients can connect.
func run(o *server.Options) (*server.Server, error) {
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		stop(s)
		return nil, fmt.Errorf("start NATS: not ready within %v", startTimeout)
	}
	return s, nil
}

// stop ends a server and waits until its store is closed.
func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

const connectTimeout = 20 * time.Second

// Connect opens a connection within the process. It survives Restart if its options allow
// enough reconnects.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	// A busy machine may take long. A server that is not there fails at once.
	own := []nats.Option{nats.InProcessServer(s), nats.Timeout(connectTimeout)}
	if s.user != nil {
		password, _ := s.user.Password()
		own = append(own, nats.UserInfo(s.user.Username(), password))
	}
	return nats.Connect("", append(own, opts...)...)
}

// URL returns the URL for clients of other processes, with the password if there is one;
// see Listen and User.
func (s *Server) URL() string {
	u := url.URL{Scheme: "nats", Host: s.server.Load().Addr().String(), User: s.user}
	return u.String()
}

// InProcessConn connects for nats.InProcessServer. It fails while the server restarts.
func (s *Server) InProcessConn() (net.Conn, error) { return s.server.Load().InProcessConn() }

// Restart stops the server in order and starts it again on the same store. It loses
// nothing, unlike a crash.
func (s *Server) Restart() error {
	stop(s.server.Load())
	return s.start()
}

// Close stops the server and waits until its store is closed.
func (s *Server) Close() {
	if running := s.server.Load(); running != nil {
		stop(running)
	}
	if s.lock != nil {
		_ = s.lock.Close() // the file stays, so that all servers lock the same one
	}
	if s.temp != "" {
		_ = os.RemoveAll(s.temp)
	}
}
