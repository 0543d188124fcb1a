// Package smtptest is a mail server for tests.
package smtptest

import (
	"bytes"
	"io"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Server takes all mail, unless a script has other answers. It is safe for concurrent use.
type Server struct {
	tb   testing.TB
	addr string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	commands []string
	mails    []Mail
	reply    func(command string) string
}

// Mail is one mail as it came in.
type Mail struct {
	From, To string // the commands of the envelope
	mail.Header
	Body string
}

// Start runs a server until the test ends.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	s.Listen()
	tb.Cleanup(s.Stop)
	return s
}

// Listen listens again after a Stop, on the same address.
func (s *Server) Listen() {
	s.tb.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.addr = l, l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			go s.serve(conn)
		}
	}()
}

// Stop ends the server and its connections.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.listener.Close()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// Script sets the server's answers to commands: the greeting is "", the end of a mail is
// ".". If f returns "", the usual answer is sent; if it returns "drop", the connection ends.
func (s *Server) Script(f func(command string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = f
}

// URL returns the value of SMTP_URL for this server.
func (s *Server) URL() *url.URL { return &url.URL{Scheme: "smtp", Host: s.addr} }

// Mails returns the mails that came in, in their order.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Sent returns how often each mail came in, by Message-ID without brackets.
func (s *Server) Sent() map[string]int {
	n := map[string]int{}
	for _, m := range s.Mails() {
		n[strings.Trim(m.Get("Message-Id"), "<>")]++
	}
	return n
}

// Count returns how many commands with this prefix came in.
func (s *Server) Count(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.commands {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func (s *Server) serve(conn net.Conn) {
	c := textproto.NewConn(conn)
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	var m Mail
	for command := ""; ; {
		usual := "250 ok"
		switch verb, _, _ := strings.Cut(strings.ToUpper(command), " "); verb {
		case "":
			usual = "220 mail.example ready"
		case "EHLO":
			usual = "250-mail.example\r\n250 8BITMIME"
		case "MAIL":
			m.From = command
		case "RCPT":
			m.To = command
		case "DATA":
			usual = "354 go ahead"
		case "QUIT":
			usual = "221 bye"
		}
		answer := s.answer(command, usual)
		if answer == "drop" || c.PrintfLine("%s", answer) != nil {
			return
		}
		if command == "DATA" && answer == usual {
			raw, err := c.ReadDotBytes()
			if err != nil {
				return // the sender died
			}
			answer := s.answer(".", "250 taken")
			if strings.HasPrefix(answer, "250") {
				s.take(m, raw)
			}
			if answer == "drop" || c.PrintfLine("%s", answer) != nil {
				return
			}
		}
		if command == "QUIT" {
			return
		}
		var err error
		if command, err = c.ReadLine(); err != nil {
			return
		}
	}
}

func (s *Server) answer(command, usual string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = append(s.commands, command)
	if s.reply != nil {
		if answer := s.reply(command); answer != "" {
			return answer
		}
	}
	return usual
}

func (s *Server) take(m Mail, raw []byte) {
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		s.tb.Errorf("not a mail: %v: %q", err, raw)
		return
	}
	body, err := io.ReadAll(parsed.Body)
	if err != nil {
		s.tb.Errorf("read a mail: %v", err)
	}
	m.Header, m.Body = parsed.Header, string(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
}
