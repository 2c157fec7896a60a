"""What people see: the pages, and in `parts` what they share. They know Streamlit and `rag`, nothing below it."""
