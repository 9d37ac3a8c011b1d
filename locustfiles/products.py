"""A products shop: most visitors browse, some buy.

locust -f locustfiles/products.py --host http://127.0.0.1:8089
"""

import random

from locust import HttpUser, between, task

WORDS = ["kettle", "lamp", "rucksack", "notebook", "teapot", "scarf", "clock"]


class Browser(HttpUser):
    """Looks around: the list, a product, a search."""

    weight = 3
    wait_time = between(0.2, 1.0)

    @task(3)
    def list_products(self):
        self.client.get("/api/products")

    @task(5)
    def view_product(self):
        self.client.get(f"/api/products/{random.randint(1, 500)}", name="/api/products/:id")

    @task(2)
    def search(self):
        query = random.choice(WORDS)
        with self.client.get("/api/search", params={"q": query}, name="/api/search", catch_response=True) as response:
            if response.status_code == 200 and response.json()["query"] != query:
                response.failure("results are for another query")


class Buyer(HttpUser):
    """Knows what to buy: a product, then the cart."""

    weight = 1
    wait_time = between(0.5, 1.5)

    @task
    def buy(self):
        product = random.randint(1, 500)
        self.client.get(f"/api/products/{product}", name="/api/products/:id")
        item = {"productId": product, "quantity": random.randint(1, 3)}
        with self.client.post("/api/cart/items", json=item, catch_response=True) as response:
            if response.status_code == 201 and response.json()["item"]["id"] != product:
                response.failure("another product is in the cart")
