"""The engine on vLLM: workers that steer each request as it asks, and an OpenAI-compatible server of them."""
