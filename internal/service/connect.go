package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/retry"
)

const (
	reconnectWait = 500 * time.Millisecond

	// The host of a server that lost its power or its network does not close connections.
	// After as many unanswered pings the client connects to another server: nine seconds at
	// most, well within an order's deadline. The library's defaults take six minutes.
	pingInterval    = 3 * time.Second
	pingsUnanswered = 2
)

// connect opens the connection, and logs its later events. It waits for a server that
// is away, but not for one that refuses the credentials. The log has the end of each wait,
// with how long it took.
func connect(ctx context.Context, cfg Config, log *slog.Logger) (*nats.Conn, error) {
	var lost time.Time // when the connection was lost; the library calls one handler at a time
	opts := []nats.Option{
		nats.Name("ordertrail " + cfg.Name),
		nats.CustomInboxPrefix("_INBOX." + cmp.Or(cfg.User, cfg.Name)), // nats/nats.conf names it
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsUnanswered),
		nats.IgnoreAuthErrorAbort(), // a password may be about to change
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			lost = time.Now()
			if err != nil {
				log.Warn("disconnected from NATS", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("reconnected to NATS", "server", nc.ConnectedUrlRedacted(), "after", time.Since(lost).Round(time.Millisecond))
		}),
		// The caller of a refused publish or subscription sees only a timeout.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				log.Error("NATS refuses what this user may not do: see nats/nats.conf", "user", cfg.Settings.NATSUser, "error", err)
				return
			}
			log.Error("error of the NATS connection", "error", err)
		}),
	}
	if cfg.Connect != nil {
		return cfg.Connect(opts...)
	}
	switch s := cfg.Settings; {
	case s.NATSNKey != "":
		key, err := nats.NkeyOptionFromSeed(s.NATSNKey)
		if err != nil {
			return nil, fmt.Errorf("setting NATS_NKEY: %w", err)
		}
		opts = append(opts, key)
	case s.NATSUser != "":
		opts = append(opts, nats.UserInfo(s.NATSUser, s.NATSPassword))
	}
	nc, err := retry.Forever(ctx, reconnectWait, func(err error, waited time.Duration) {
		if err != nil {
			log.Warn("waiting for NATS", "url", redacted(cfg.Settings.NATSURL), "error", err)
			return
		}
		log.Info("connected to NATS", "url", redacted(cfg.Settings.NATSURL), "after", waited.Round(time.Millisecond))
	}, func(context.Context) (*nats.Conn, error) {
		nc, err := nats.Connect(cfg.Settings.NATSURL, opts...)
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
			return nil, backoff.Permanent(fmt.Errorf("NATS refuses the credentials: check NATS_USER and NATS_PASSWORD, or NATS_NKEY, or those in NATS_URL: %w", err))
		}
		return nc, err
	})
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("connect to NATS: %w", ctx.Err())
	}
	return nc, err
}

// redacted returns a URL without its password.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "NATS_URL"
	}
	return u.Redacted()
}
