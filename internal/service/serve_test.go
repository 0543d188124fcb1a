package service_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/ordertrail/internal/service"
)

// serve serves h and returns its address, and a function that ends the server and
// returns its error.
func serve(t *testing.T, h http.Handler) (address string, end func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, listener, h) }()
	return listener.Addr().String(), func() error { cancel(); return <-served }
}

// Clients that do not read their answers do not keep a server from ending in time.
func TestServeEndsInTime(t *testing.T) {
	t.Parallel()
	writing := make(chan struct{}, 1)
	answer := strings.Repeat("x", 32<<20) // more than the operating system buffers
	address, end := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writing <- struct{}{}
		_, _ = io.WriteString(w, answer)
	}))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-writing
	began := time.Now()
	if err := end(); err != nil {
		t.Errorf("the server ended with: %v", err)
	}
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("the end took %v", took)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _ := io.Copy(io.Discard, c); n >= int64(len(answer)) {
		t.Error("the connection lives longer than the server")
	}
}

// A client that does not read its answer does not keep its connection.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	wrote, served := make(chan error, 1), make(chan error, 1)
	answer := strings.Repeat("x", 32<<20) // more than the operating system buffers
	go func() {
		served <- service.ServeFor(ctx, listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, answer)
			wrote <- err
		}), 200*time.Millisecond)
	}()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-wrote:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("writing the answer ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the answer is still being written")
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A client that has too many connections gets no more. If it closes one, it gets another.
func TestConnectionsOfOneClient(t *testing.T) {
	t.Parallel()
	address, end := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	const client = "127.0.0.1"
	var open net.Conn
	for range service.MaxConnectionsPerClient {
		var err error
		if open, err = ask(t, client, address); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ask(t, client, address); err == nil {
		t.Error("the client got one more connection")
	}
	_ = open.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := ask(t, client, address); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("a client that closed a connection got no other one")
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// ask sends a request from a client's address, and returns the connection when it is answered.
func ask(t *testing.T, client, address string) (net.Conn, error) {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}).Dial("tcp", address)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skipf("this system's loopback interface has no address %s", client)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
	_, err = bufio.NewReader(c).ReadString('\n')
	return c, err
}

// A few clients cannot keep all others out: at the bound, one of theirs is closed.
func TestConnectionsOfAFewClients(t *testing.T) {
	t.Parallel()
	address, end := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i := range service.MaxConnections {
		if _, err := ask(t, fmt.Sprintf("127.0.0.%d", 2+i/service.MaxConnectionsPerClient), address); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if _, err := ask(t, "127.0.0.1", address); err != nil {
		t.Errorf("another client: %v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// Only requests to known names are answered, so that no page of another site can use a
// name that resolves to this address.
func TestKnownHosts(t *testing.T) {
	t.Setenv("SHOP_URL", "https://Shop.example:8443/")
	t.Setenv("ANALYTICS_URL", "http://numbers.example")
	t.Setenv("ALLOWED_HOSTS", "orders, proxy.example")
	settings, err := service.ReadSettings()
	if err != nil {
		t.Fatal(err)
	}
	address, end := serve(t, service.KnownHosts(settings, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	defer func() { _ = end() }()
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:8080": 200, "shop.localhost": 200, "127.0.0.1:1": 200, "127.1.2.3": 200, "[::1]:8080": 200,
		"shop.example": 200, "shop.example:80": 200, "shop.example.": 200, "numbers.example": 200, "orders:8080": 200, "proxy.example": 200,
		"evil.example": 421, "evil.example:8080": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
		"192.168.0.1": 421, "0.0.0.0": 421, "[::]": 421, "2130706433": 421, "shop.example.evil.example": 421,
	} {
		r, err := http.NewRequest(http.MethodGet, "http://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("Host %s: status %d, want %d", host, answer.StatusCode, want)
		}
		if got := answer.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("Host %s: X-Content-Type-Options = %q", host, got)
		}
	}
}

func TestAllowedHostsAreNames(t *testing.T) {
	t.Setenv("ALLOWED_HOSTS", "http://shop.example/")
	if _, err := service.ReadSettings(); err == nil || !strings.Contains(err.Error(), "ALLOWED_HOSTS") {
		t.Errorf("error %v, want one that names ALLOWED_HOSTS", err)
	}
}
