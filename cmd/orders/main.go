// Command orders runs the orders service against the NATS server at NATS_URL.
package main

import (
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/orders"
)

func main() { service.Main(orders.Service(nil, nil)) }
