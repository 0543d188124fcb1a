package systemtest

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Store is a server within the process whose store a test changes while it is stopped.
// Connections to it reconnect.
type Store struct {
	Dir string

	mu     sync.Mutex
	server *server.Server // nil while it is stopped
}

// NewStore starts a server until the test ends.
func NewStore(t testing.TB) *Store {
	t.Helper()
	s := &Store{Dir: t.TempDir()}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// Change stops the server, calls change with its store's directory, and starts it
// again.
func (s *Store) Change(t testing.TB, change func(dir string)) {
	t.Helper()
	s.stop()
	change(s.Dir)
	s.start(t)
}

// Wipe removes everything from the store.
func (s *Store) Wipe(t testing.TB) {
	t.Helper()
	s.Change(t, func(dir string) {
		if err := os.RemoveAll(filepath.Join(dir, server.JetStreamStoreDir)); err != nil {
			t.Fatal(err)
		}
	})
}

// Backup copies the store, and returns a function that puts a part of the copy in its
// place again: that below a path, or all with the path ".".
func (s *Store) Backup(t testing.TB) (restore func(path string)) {
	t.Helper()
	backup := t.TempDir()
	s.Change(t, func(dir string) {
		if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	})
	return func(path string) {
		t.Helper()
		s.Change(t, func(dir string) {
			err := os.RemoveAll(filepath.Join(dir, path))
			if err == nil {
				err = os.CopyFS(filepath.Join(dir, path), os.DirFS(filepath.Join(backup, path)))
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// StreamPath is the path of a stream's files below the store's directory.
func StreamPath(name string) string {
	return filepath.Join(server.JetStreamStoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams", name)
}

// CopyLive replaces a directory by a copy of a store whose server runs. That is what a
// server leaves that is killed now. Files may come and go meanwhile.
func CopyLive(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		copied := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case err != nil:
		case entry.IsDir():
			err = os.MkdirAll(copied, 0o700)
		default:
			var content []byte
			if content, err = os.ReadFile(path); err == nil {
				err = os.WriteFile(copied, content, 0o600)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func (s *Store) start(t testing.TB) {
	t.Helper()
	started, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: s.Dir, NoSigs: true, NoLog: true, SyncInterval: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	started.Start()
	if !started.ReadyForConnections(Patience) {
		t.Fatal("the server is not ready")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = started
}

func (s *Store) stop() {
	s.mu.Lock()
	stopped := s.server
	s.server = nil
	s.mu.Unlock()
	if stopped != nil {
		stopped.Shutdown()
		stopped.WaitForShutdown()
	}
}

// InProcessConn connects to the running server. nats.InProcessServer calls it.
func (s *Store) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil, errors.New("the server is stopped")
	}
	return s.server.InProcessConn()
}

// Connect connects to the server, and again whenever it has been stopped.
func (s *Store) Connect(opts ...nats.Option) (*nats.Conn, error) {
	own := []nats.Option{nats.InProcessServer(s), nats.Timeout(Patience), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}
	return nats.Connect("", append(own, opts...)...)
}
